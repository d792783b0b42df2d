"""The official Python client of the OpenAI API against the real program: what applications see."""

import hashlib
import json
import time

import openai
import pytest
import servers

PROMPT = [{"role": "user", "content": "Tell me about the sea."}]
# A fault server calls the first tool when the prompt asks for a call.
CALL = [{"role": "user", "content": "Please call the weather tool for Beijing."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
KEY = "sk-mainstay-for-this-test-alone"


def client_of(gateway, **options):
    options = {"api_key": "any", "max_retries": 0, "timeout": 60, **options}
    return openai.OpenAI(base_url=gateway.api + "/v1", **options)


@pytest.fixture(scope="session")
def faults():
    with servers.fault_server() as url:
        yield url


@pytest.fixture(scope="session")
def front(faults):
    with servers.gateway(servers.config(faults, "python")) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def client(front):
    return client_of(front)


@pytest.fixture(scope="session")
def embedded():
    with servers.gateway() as gateway:
        yield client_of(gateway)


def text_of(stream):
    return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)


# A site that answers properly.


def test_a_plain_answer_is_whole_and_counted(client):
    answer = client.chat.completions.create(model="ok", messages=PROMPT)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_what_the_plain_answer_says(client):
    plain = client.chat.completions.create(model="ok", messages=PROMPT)
    chunks = list(client.chat.completions.create(model="ok", messages=PROMPT, stream=True))
    assert text_of(chunks) == plain.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == "stop" and set(reasons[:-1]) == {None}
    assert len({c.id for c in chunks}) == 1


def test_usage_ends_a_stream_only_where_it_was_asked_for(client):
    asked = list(
        client.chat.completions.create(
            model="ok", messages=PROMPT, stream=True, stream_options={"include_usage": True}
        )
    )
    assert asked[-1].choices == [] and asked[-1].usage.completion_tokens > 0
    silent = client.chat.completions.create(model="ok", messages=PROMPT, stream=True)
    assert all(c.usage is None and c.choices for c in silent)


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_pass_through(client, stream):
    answer = client.chat.completions.create(
        model="ok", messages=CALL, tools=[WEATHER], tool_choice="required", stream=stream
    )
    if stream:
        parts = [c.choices[0] for c in answer if c.choices]
        calls = [call for part in parts for call in part.delta.tool_calls or []]
        name = next(call.function.name for call in calls if call.function.name)
        arguments = "".join(call.function.arguments or "" for call in calls)
        reason = parts[-1].finish_reason
    else:
        call = answer.choices[0].message.tool_calls[0]
        name, arguments = call.function.name, call.function.arguments
        reason = answer.choices[0].finish_reason
    assert name == "weather" and json.loads(arguments) and reason == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_each_of_several_choices_is_whole(client, stream):
    answer = client.chat.completions.create(model="ok", messages=PROMPT, n=2, stream=stream)
    if stream:
        ends = {c.choices[0].index: c.choices[0].finish_reason for c in answer if c.choices}
        assert ends == {0: "stop", 1: "stop"}
    else:
        assert [c.index for c in answer.choices] == [0, 1]
        assert all(c.message.content for c in answer.choices)


def test_json_mode_answers_json(client):
    answer = client.chat.completions.create(
        model="ok", messages=PROMPT, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_legacy_completions_work(client):
    plain = client.completions.create(model="ok", prompt="The sea is")
    assert plain.choices[0].text and plain.choices[0].finish_reason == "stop"
    stream = client.completions.create(model="ok", prompt="The sea is", stream=True)
    assert "".join(c.choices[0].text for c in stream if c.choices) == plain.choices[0].text


def test_embeddings_work(client):
    answer = client.embeddings.create(model="ok", input="sea")
    assert len(answer.data) == 1 and len(answer.data[0].embedding) > 0
    assert answer.usage.prompt_tokens > 0


def test_models_are_listed(client):
    names = [model.id for model in client.models.list()]
    assert {"ok", "cut", "silent"} <= set(names)
    assert client.models.retrieve("ok").id == "ok"


def test_a_response_names_its_request_site_and_model(client):
    raw = client.chat.completions.with_raw_response.create(model="ok", messages=PROMPT)
    assert raw.headers["x-mainstay-request-id"]
    assert raw.headers["x-mainstay-site"] in ("first", "second")
    assert raw.headers["x-mainstay-attempts"] == "1"
    assert raw.parse().model == "ok"


# Sites that fail.


@pytest.mark.parametrize("model", ["cut", "reset"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_answer_is_finished_elsewhere_word_for_word(client, model, stream):
    whole = client.chat.completions.create(model="ok", messages=PROMPT).choices[0].message.content
    answer = client.chat.completions.create(model=model, messages=PROMPT, stream=stream)
    text = text_of(answer) if stream else answer.choices[0].message.content
    assert text == whole


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="no-such-model", messages=PROMPT)
    assert error.value.code == "model_not_found"
    assert error.value.response.headers["x-mainstay-request-id"]


@pytest.mark.parametrize("messages", [[], "hello"])
def test_a_malformed_request_is_a_bad_request(client, messages):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="ok", messages=messages)
    assert error.value.type == "invalid_request_error"


def test_a_provider_policy_reaches_the_client_as_such(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="policy", messages=PROMPT)
    assert error.value.code == "content_policy_violation"


def test_a_context_too_long_everywhere_is_a_bad_request(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="short-window", messages=PROMPT)
    assert error.value.code == "context_length_exceeded"


def test_overload_everywhere_is_503_with_a_time_to_come_back(client):
    with pytest.raises(openai.APIStatusError) as error:
        client.chat.completions.create(model="overloaded", messages=PROMPT)
    assert error.value.status_code == 503 and error.value.code == "overloaded"
    assert int(error.value.response.headers["retry-after"]) >= 1
    assert "first" in error.value.message


def test_our_unpaid_bill_is_never_the_client_s_402(client):
    with pytest.raises(openai.InternalServerError) as error:
        client.chat.completions.create(model="unpaid", messages=PROMPT)
    assert error.value.status_code == 503 and error.value.code == "no_site"


def test_a_client_s_own_timeout_is_its_own(front):
    impatient = client_of(front, timeout=0.5)
    begun = time.monotonic()
    with pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(model="silent", messages=PROMPT)
    assert time.monotonic() - begun < 5


def test_silence_is_ended_by_us_long_before_a_usual_timeout(client):
    begun = time.monotonic()
    with pytest.raises(openai.InternalServerError) as error:
        client.chat.completions.create(model="silent", messages=PROMPT)
    assert error.value.status_code in (502, 503, 504)
    assert time.monotonic() - begun < 15


def test_only_known_keys_may_call_where_keys_are_configured(faults):
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    more = f'[[key]]\nname = "test"\ntier = "pro"\nhash = "{digest}"\n'
    with servers.gateway(servers.config(faults, "python-keys", more)) as gateway:
        known = client_of(gateway, api_key=KEY)
        assert known.chat.completions.create(model="ok", messages=PROMPT).choices
        with pytest.raises(openai.AuthenticationError):
            client_of(gateway).chat.completions.create(model="ok", messages=PROMPT)


def test_a_limit_is_told_so_that_the_client_waits_as_long_as_it_must(faults):
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    more = f'[[key]]\nname = "few"\nhash = "{digest}"\nrequests_per_minute = 60\n'
    with servers.gateway(servers.config(faults, "python-limits", more)) as gateway:
        once = client_of(gateway, api_key=KEY)
        raw = once.chat.completions.with_raw_response
        headers = raw.create(model="ok", messages=PROMPT).headers
        assert headers["x-ratelimit-limit-requests"] == "60"
        assert 0 <= int(headers["x-ratelimit-remaining-requests"]) <= 5
        with pytest.raises(openai.RateLimitError) as refused:
            for _ in range(200):
                once.embeddings.create(model="ok", input="sea")
        assert refused.value.code == "rate_limit_exceeded"
        assert 0 < int(refused.value.response.headers["retry-after-ms"]) <= 1000
        # The client's own retries come when they are told to, and are let in.
        patient = client_of(gateway, api_key=KEY, max_retries=2)
        assert patient.chat.completions.create(model="ok", messages=PROMPT).choices


# The embedded engine, as it is without any configuration.


def test_the_embedded_engine_answers_and_names_itself(embedded):
    answer = embedded.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "Which providers are down?"}]
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    # Questions about providers are answered from the state itself, others by the model.
    assert answer.model in ("builtin", "status")
    assert answer.usage.completion_tokens > 0


def test_the_embedded_engine_streams(embedded):
    chunks = list(
        embedded.chat.completions.create(
            model="chat",
            messages=PROMPT,
            stream=True,
            temperature=0,
            stream_options={"include_usage": True},
        )
    )
    assert text_of(chunks)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")
    assert chunks[-1].usage.completion_tokens > 0


def test_the_embedded_engine_gives_several_choices(embedded):
    answer = embedded.chat.completions.create(model="chat", messages=PROMPT, n=2, max_tokens=8)
    assert [c.index for c in answer.choices] == [0, 1]


def test_the_embedded_engine_keeps_to_a_limit_of_tokens(embedded):
    answer = embedded.chat.completions.create(model="chat", messages=PROMPT, max_tokens=3)
    assert answer.usage.completion_tokens <= 3


def test_the_embedded_engine_refuses_what_it_cannot_do(embedded):
    with pytest.raises(openai.BadRequestError) as refused:
        embedded.chat.completions.create(
            model="chat", messages=PROMPT, response_format={"type": "json_object"}
        )
    assert refused.value.code == "unsupported"
    with pytest.raises(openai.BadRequestError) as refused:
        embedded.embeddings.create(model="builtin", input="sea")
    assert refused.value.code == "unsupported"


def test_the_embedded_engine_completes(embedded):
    completion = embedded.completions.create(model="builtin", prompt="Mainstay is", max_tokens=8)
    assert completion.choices[0].finish_reason in ("stop", "length")


def test_the_embedded_engine_is_listed(embedded):
    assert [model.id for model in embedded.models.list()] == ["chat", "builtin"]
