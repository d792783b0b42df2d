// The official Node client of the OpenAI API against the real program: what applications see.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import OpenAI from "openai";
import { config, faultServer, gateway } from "./servers.mjs";

const messages = [{ role: "user", content: "Tell me about the sea." }];
// A fault server calls the first tool when the prompt asks for a call.
const call = [{ role: "user", content: "Please call the weather tool for Beijing." }];
const weather = {
  type: "function",
  function: {
    name: "weather",
    description: "The weather in a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const clientOf = (url, options) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0, timeout: 60_000, ...options });

async function textOf(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  return text;
}

describe("in front of providers", () => {
  let client, faults, front;
  before(async () => {
    faults = await faultServer();
    front = await gateway(config(faults.value, "node"));
    client = clientOf(front.value);
  });
  after(async () => {
    await front?.stop();
    await faults?.stop();
  });

  test("a stream says what the plain answer says", async () => {
    const plain = await client.chat.completions.create({ model: "ok", messages });
    assert.equal(plain.choices[0].finish_reason, "stop");
    assert.ok(plain.usage.completion_tokens > 0);
    const stream = await client.chat.completions.create({ model: "ok", messages, stream: true });
    assert.equal(await textOf(stream), plain.choices[0].message.content);
  });

  test("the client's own accumulator of streams agrees, with usage", async () => {
    const options = { include_usage: true };
    const runner = client.chat.completions.stream({ model: "ok", messages, stream_options: options });
    const whole = await runner.finalChatCompletion();
    assert.equal(whole.choices[0].finish_reason, "stop");
    assert.ok((await runner.totalUsage()).completion_tokens > 0);
  });

  test("tool calls pass through", async () => {
    const tools = [weather];
    const ask = { model: "ok", messages: call, tools, tool_choice: "required" };
    const plain = await client.chat.completions.create(ask);
    const whole = plain.choices[0].message.tool_calls[0];
    assert.equal(whole.function.name, "weather");
    assert.equal(plain.choices[0].finish_reason, "tool_calls");
    const streamed = await client.chat.completions.stream(ask).finalMessage();
    assert.deepEqual(
      JSON.parse(streamed.tool_calls[0].function.arguments),
      JSON.parse(whole.function.arguments),
    );
  });

  test("each of several choices is whole", async () => {
    const answer = await client.chat.completions.create({ model: "ok", messages, n: 2 });
    assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
    assert.ok(answer.choices.every((choice) => choice.message.content));
  });

  test("JSON mode answers JSON", async () => {
    const response_format = { type: "json_object" };
    const answer = await client.chat.completions.create({ model: "ok", messages, response_format });
    assert.equal(typeof JSON.parse(answer.choices[0].message.content), "object");
  });

  test("legacy completions and embeddings work", async () => {
    const completion = await client.completions.create({ model: "ok", prompt: "The sea is" });
    assert.ok(completion.choices[0].text);
    const { data } = await client.embeddings.create({ model: "ok", input: "sea" });
    assert.equal(data.length, 1);
    assert.ok(data[0].embedding.length > 0);
  });

  test("models are listed", async () => {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert.ok(names.includes("ok") && names.includes("cut"));
  });

  test("a response names its request and site", async () => {
    const { response } = await client.chat.completions
      .create({ model: "ok", messages })
      .withResponse();
    assert.ok(response.headers.get("x-mainstay-request-id"));
    assert.ok(["first", "second"].includes(response.headers.get("x-mainstay-site")));
  });

  test("a broken answer is finished elsewhere word for word", async () => {
    const whole = await client.chat.completions.create({ model: "ok", messages });
    const stream = await client.chat.completions.create({ model: "cut", messages, stream: true });
    assert.equal(await textOf(stream), whole.choices[0].message.content);
  });

  test("errors have the client's own types", async () => {
    const ask = (model, more) => client.chat.completions.create({ model, messages, ...more });
    await assert.rejects(ask("no-such-model"), (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.code, "model_not_found");
      return true;
    });
    await assert.rejects(ask("ok", { messages: [] }), OpenAI.BadRequestError);
    await assert.rejects(ask("policy"), OpenAI.BadRequestError);
    await assert.rejects(ask("overloaded"), (error) => {
      assert.equal(error.status, 503);
      assert.equal(error.code, "overloaded");
      assert.ok(Number(error.headers.get("retry-after")) >= 1);
      return true;
    });
  });

  test("a client's own timeout is its own", async () => {
    const impatient = clientOf(front.value, { timeout: 500 });
    const ask = impatient.chat.completions.create({ model: "silent", messages });
    await assert.rejects(ask, OpenAI.APIConnectionTimeoutError);
  });

  test("a stream that the client leaves does no harm to the next", async () => {
    const stream = await client.chat.completions.create({ model: "ok", messages, stream: true });
    for await (const _ of stream) break;
    const answer = await client.chat.completions.create({ model: "ok", messages });
    assert.ok(answer.choices[0].message.content);
  });
});

describe("the embedded engine, without any configuration", () => {
  let client, front;
  before(async () => {
    front = await gateway();
    client = clientOf(front.value);
  });
  after(() => front?.stop());

  test("it answers and names itself", async () => {
    const answer = await client.chat.completions.create({ model: "chat", messages });
    assert.ok(answer.choices[0].message.content);
    assert.ok(["builtin", "status"].includes(answer.model));
    assert.ok(answer.usage.completion_tokens > 0);
  });

  test("it streams", async () => {
    const stream = await client.chat.completions.create({ model: "chat", messages, stream: true });
    assert.ok(await textOf(stream));
  });

  test("it completes, and refuses what it cannot do", async () => {
    const ask = { model: "builtin", prompt: "Mainstay is", max_tokens: 8 };
    assert.ok((await client.completions.create(ask)).choices.length);
    const embed = client.embeddings.create({ model: "builtin", input: "sea" });
    await assert.rejects(embed, { status: 400, code: "unsupported" });
  });
});
