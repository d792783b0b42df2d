"""The fixed answers of the builtin model: one English and one Chinese text per intent.

Everything an operator would type is copied from the overview of the project (commands, TOML keys,
headers, error codes). Texts are short on purpose: the model learns them by heart, and each token
costs training time. Facts that change are never here: those are slots, see `state.py`.
"""

KEY = "`DEEPSEEK_API_KEY=… mainstay`"

# intent: (English, Chinese)
FIXED = {
    # who and small talk
    "who": (
        "I am the small built-in model of Mainstay. I answer when no larger model can, and I only "
        "know about this service.",
        "我是 Mainstay 自带的小模型。大模型都不能用时由我回答,我只了解这个服务。",
    ),
    "hello": (
        "Hello! I am the small built-in model of Mainstay. Ask me what is up, what is down, or how "
        "to add a provider.",
        "你好!我是 Mainstay 自带的小模型。可以问我哪个站点正常、哪个中断、怎样添加服务商。",
    ),
    "how_are_you": (
        "I am running. Ask me about the sites, an error, or how to set up Mainstay.",
        "我在运行。可以问我站点状态、报错或 Mainstay 的设置。",
    ),
    "thanks": ("You are welcome.", "不客气。"),
    "bye": ("Goodbye.", "再见。"),
    "sorry": (
        "No harm done. Ask me about the sites, an error, or the set-up.",
        "没关系。可以问我站点状态、报错或设置。",
    ),
    "can_do": (
        "I can say which sites are up, slow or down and when to try again, explain errors, and show "
        "how to add sites, keys, models and substitutes. For anything else you need a larger model.",
        "我能说明哪些站点正常、缓慢或中断、何时重试,解释报错,以及怎样添加站点、密钥、模型和替代模型。其他问题需要更大的模型。",
    ),
    "human": (
        "No, I am a program: the small built-in model of Mainstay.",
        "不是,我是程序:Mainstay 自带的小模型。",
    ),
    "mainstay": (
        "Mainstay is an LLM gateway that stays up: one OpenAI-compatible URL in front of several "
        "providers and your own workers. When one fails, the others answer.",
        "Mainstay 是不中断的大模型网关:一个兼容 OpenAI 的地址,后面是多个服务商和自有机器。一个出故障,其他的来回答。",
    ),
    # errors
    "e429": (
        "429 `rate_limit_exceeded`: you reached the limit of your own key. Wait as long as "
        "Retry-After says, or ask for a higher tier.",
        "429 `rate_limit_exceeded`:您的密钥达到了限额。请按 Retry-After 等待,或申请更高的等级。",
    ),
    "e503": (
        "503 means that Mainstay has no capacity for you now: `overloaded` when the sites are full, "
        "`no_site` when none is usable. Wait as long as Retry-After says.",
        "503 表示 Mainstay 现在没有容量:站点已满是 `overloaded`,没有可用站点是 `no_site`。请按 Retry-After 等待。",
    ),
    "e502": (
        "502 means that every attempt at a site failed (`upstream_failed`) or the answers were empty "
        "(`empty_answer`). The message names what was tried. Try again in a few seconds.",
        "502 表示对各站点的尝试都失败了(`upstream_failed`),或者回答是空的(`empty_answer`)。报错里写明了尝试过程。请几秒后重试。",
    ),
    "e504": (
        "504 `deadline`: no answer came before the deadline of the request. Try again, or ask for a "
        "shorter answer.",
        "504 `deadline`:在请求的期限内没有得到回答。请重试,或要求更短的回答。",
    ),
    "e401": (
        "The provider refused its key. Check the variable that `key_env` of that site names, then "
        "start Mainstay again. Requests go to other sites meanwhile.",
        "服务商拒绝了密钥。请检查该站点 `key_env` 指定的变量,然后重启 Mainstay。其间请求会转到其他站点。",
    ),
    "e402": (
        "The account at the provider has no credit. Top it up; Mainstay tries that site again every "
        "5 minutes and uses other sites meanwhile.",
        "服务商账户余额不足。请充值;Mainstay 每 5 分钟再试一次,其间使用其他站点。",
    ),
    "e400": (
        "400 means that the request itself is wrong, for instance too long or not allowed. Change the "
        "request; trying again does not help.",
        "400 表示请求本身有问题,例如太长或不被允许。请修改请求,重试没有用。",
    ),
    "e404": (
        "404 means that Mainstay knows no model of that name. List the models with "
        "`GET /v1/models`.",
        "404 表示 Mainstay 没有这个名字的模型。用 `GET /v1/models` 查看模型列表。",
    ),
    "overloaded": (
        "503 `overloaded`: the sites are full for your tier. Lower tiers are refused first. Wait as "
        "long as Retry-After says.",
        "503 `overloaded`:对您的等级来说站点已满,低等级先被拒绝。请按 Retry-After 等待。",
    ),
    "no_site": (
        "503 `no_site`: no site is usable now, because each one is down, refuses its key, has no "
        "credit or no longer has the model.",
        "503 `no_site`:现在没有可用的站点,它们中断、拒绝密钥、余额不足或不再提供该模型。",
    ),
    "upstream_failed": (
        "502 `upstream_failed`: every attempt at a site failed. The message names what was tried. Try "
        "again in a few seconds.",
        "502 `upstream_failed`:对各站点的尝试都失败了,报错里写明了尝试过程。请几秒后重试。",
    ),
    "deadline": (
        "504 `deadline`: the time for this request ran out before an answer was complete. Try again, "
        "or ask for a shorter answer.",
        "504 `deadline`:回答完成之前请求的时间用完了。请重试,或要求更短的回答。",
    ),
    "empty_answer": (
        "502 `empty_answer`: the provider said success twice but sent no text. Try again in a few "
        "seconds.",
        "502 `empty_answer`:服务商两次返回成功,但没有内容。请几秒后重试。",
    ),
    "e_other": (
        "I do not know that code. The message of the error says what was tried. The codes of Mainstay "
        "are 400, 404, 429, 502, 503 and 504.",
        "我不认识这个代码。报错信息写明了尝试过程。Mainstay 的代码有 400、404、429、502、503 和 504。",
    ),
    # set-up
    "add_site": (
        'Put this into mainstay.toml:\n[[site]]\nname = "deepseek"\nprovider = "deepseek"\n'
        'key_env = "DEEPSEEK_API_KEY"\nThen run `mainstay serve --config mainstay.toml`.',
        '写入 mainstay.toml:\n[[site]]\nname = "deepseek"\nprovider = "deepseek"\n'
        'key_env = "DEEPSEEK_API_KEY"\n然后运行 `mainstay serve --config mainstay.toml`。',
    ),
    "add_own_site": (
        'Put this into mainstay.toml:\n[[site]]\nname = "hangzhou"\n'
        'workers = [{ url = "http://10.0.0.5:8000", engine = "vllm" }]',
        '写入 mainstay.toml:\n[[site]]\nname = "hangzhou"\n'
        'workers = [{ url = "http://10.0.0.5:8000", engine = "vllm" }]',
    ),
    "add_node": (
        'Put this into mainstay.toml:\n[[site]]\nname = "shanghai"\n'
        'node = "https://sh.example.com:8443"',
        '写入 mainstay.toml:\n[[site]]\nname = "shanghai"\nnode = "https://sh.example.com:8443"',
    ),
    "add_key": (
        f"Put the key into the environment and start Mainstay: {KEY}. Each provider key found there "
        "becomes a site; several work too: `DEEPSEEK_API_KEY=… DASHSCOPE_API_KEY=… mainstay`.",
        f"把密钥放进环境变量再启动:{KEY}。找到的每个服务商密钥都会成为一个站点,也可以放多个:"
        "`DEEPSEEK_API_KEY=… DASHSCOPE_API_KEY=… mainstay`。",
    ),
    "add_model": (
        'Put this into mainstay.toml:\n[[model]]\nname = "chat"\n'
        'served_by = ["deepseek/deepseek-flash"]',
        '写入 mainstay.toml:\n[[model]]\nname = "chat"\nserved_by = ["deepseek/deepseek-flash"]',
    ),
    "add_substitute": (
        'Add a line to the [[model]] in mainstay.toml:\nsubstitutes = ["dashscope/qwen-max"]\n'
        "They are tried in order when no equal site can answer.",
        '在 mainstay.toml 的 [[model]] 里加一行:\nsubstitutes = ["dashscope/qwen-max"]\n'
        "没有同等站点能回答时按顺序使用。",
    ),
    "add_api_key": (
        "Run `mainstay keys create` and put the hash it prints into mainstay.toml:\n[[key]]\n"
        'name = "acme-prod"\ntier = "enterprise"\nhash = "…"',
        "运行 `mainstay keys create`,把给出的哈希写入 mainstay.toml:\n[[key]]\n"
        'name = "acme-prod"\ntier = "enterprise"\nhash = "…"',
    ),
    "list_keys": ("Run `mainstay keys list`.", "运行 `mainstay keys list`。"),
    "revoke_key": ("Run `mainstay keys revoke`.", "运行 `mainstay keys revoke`。"),
    "list_models": ("Ask the API: `GET /v1/models`.", "调用接口:`GET /v1/models`。"),
    "add_tier": (
        'Put this into mainstay.toml:\n[[tier]]\nname = "free"\nfloor = 0.05\n'
        "requests_per_minute = 20\nconcurrency = 2",
        '写入 mainstay.toml:\n[[tier]]\nname = "free"\nfloor = 0.05\n'
        "requests_per_minute = 20\nconcurrency = 2",
    ),
    "own_weights": (
        'Give a site your directory of safetensors or a GGUF file:\n[[site]]\nname = "last-resort"\n'
        'engine = { model = "<directory>" }',
        '给站点指定 safetensors 目录或 GGUF 文件:\n[[site]]\nname = "last-resort"\n'
        'engine = { model = "<directory>" }',
    ),
    "base_url": (
        'Use the dialect "openai" for any OpenAI-compatible server:\n[[site]]\nname = "mine"\n'
        'provider = "openai"\nbase_url = "https://…/v1"\nkey_env = "MY_API_KEY"',
        '兼容 OpenAI 的服务用 "openai":\n[[site]]\nname = "mine"\n'
        'provider = "openai"\nbase_url = "https://…/v1"\nkey_env = "MY_API_KEY"',
    ),
    "start_config": (
        "Run `mainstay serve --config mainstay.toml`.",
        "运行 `mainstay serve --config mainstay.toml`。",
    ),
    "capacity": (
        "Set `capacity` in the [[site]]: the concurrent requests that the account allows, for "
        "instance `capacity = 500`.",
        "在 [[site]] 里设置 `capacity`:账户允许的并发请求数,例如 `capacity = 500`。",
    ),
    "listen": (
        'Set it in mainstay.toml:\n[listen]\napi = "127.0.0.1:8080"\nBeyond loopback a key is needed, '
        "or `allow_anonymous = true`.",
        '在 mainstay.toml 里设置:\n[listen]\napi = "127.0.0.1:8080"\n对外监听需要密钥,或 `allow_anonymous = true`。',
    ),
    # concepts
    "tier": (
        "A tier is a service class: enterprise, pro, free or batch. When capacity is short, the "
        "lowest tier is refused first.",
        "等级是服务级别:enterprise、pro、free、batch。容量不足时先拒绝最低的等级。",
    ),
    "substitute": (
        "A substitute is another model that answers, in the order you set, when no site with the same "
        "weights can. The field `model` names the one that really answered.",
        "替代模型是在没有同样权重的站点能回答时,按您设定的顺序来回答的另一个模型。`model` 字段会写明真正回答的模型。",
    ),
    "failover": (
        "Failover means that when a site fails, the request goes on at another one. Mainstay does it "
        "by itself and never sends a site more than it agreed to admit.",
        "故障转移是指一个站点出故障时,请求在另一个站点继续。Mainstay 会自动完成,而且不会超过站点同意接收的量。",
    ),
    "site": (
        "A site is a failure domain that can answer: one of your data centers or one provider "
        "account.",
        "站点是能回答请求的一个故障域:一个自有机房,或一个服务商账户。",
    ),
    "served_by": (
        "`served_by` lists the sites with the same weights for a model. They are interchangeable.",
        "`served_by` 列出拥有同一模型权重的站点,它们可以互换。",
    ),
    "resume": (
        "An answer once begun is finished: when the stream breaks, another site goes on, with no "
        "token lost and none twice, or you get an explicit error.",
        "已经开始的回答会完成:流中断时由另一个站点继续,不丢也不重复,否则给出明确的报错。",
    ),
    "fate": (
        "`fate` names what a site shares with others, such as `pay:card-1`: what dies together. "
        "`mainstay check` uses it.",
        "`fate` 写明站点与其他站点共有的东西,如 `pay:card-1`:会一起失效。`mainstay check` 会用到它。",
    ),
    "degraded": (
        "`x-mainstay-degraded: embedded` says that the embedded engine answered in place of a larger "
        "model.",
        "`x-mainstay-degraded: embedded` 表示由内置引擎代替大模型回答。",
    ),
    "who_answered": (
        "The field `model` names the model that really answered; the headers `x-mainstay-site` and "
        "`x-mainstay-attempts` say where and after how many attempts.",
        "`model` 字段写明真正回答的模型;`x-mainstay-site` 和 `x-mainstay-attempts` 写明站点和尝试次数。",
    ),
    # commands
    "check": (
        "`mainstay check` audits your redundancy: it exits with 1 if a single loss takes a model "
        "down.",
        "`mainstay check` 检查冗余:如果失去任何一个就会使某个模型中断,退出码为 1。",
    ),
    "simulate": (
        "`mainstay simulate SCENARIO` plays an outage in virtual time and reports what would "
        "happen.",
        "`mainstay simulate SCENARIO` 在虚拟时间里演练一次故障并报告结果。",
    ),
    "drill": (
        "`mainstay drill --site S --fault down` breaks the real path of a site within a blast cap; "
        "add `--for 2m` to end it.",
        "`mainstay drill --site S --fault down` 在限定范围内真实演练站点故障;加 `--for 2m` 定时结束。",
    ),
    "drain": (
        '`mainstay drain S --for 1h --reason "…"` takes a site out of use; `mainstay undrain S` '
        "brings it back.",
        '`mainstay drain S --for 1h --reason "…"` 让站点退出服务;`mainstay undrain S` 让它恢复。',
    ),
    "top": (
        "Run `mainstay top` for a live view in the terminal.",
        "运行 `mainstay top` 在终端查看实时情况。",
    ),
    "usage": ("Run `mainstay usage`.", "运行 `mainstay usage`。"),
    "status_page": (
        "The public status page is at 127.0.0.1:8082, unless you changed `status` in [listen].",
        "公开的状态页在 127.0.0.1:8082,除非您改了 [listen] 里的 `status`。",
    ),
    "metrics": (
        "Metrics and the console are on the admin listener, 127.0.0.1:8081.",
        "指标和控制台在 admin 监听地址 127.0.0.1:8081。",
    ),
}

REFUSE = (
    "I cannot answer that: I am only the small built-in model of Mainstay. For real answers add a "
    f'provider key ({KEY}) or your own weights (`engine = {{ model = "<directory>" }}`).',
    f"这个我答不了:我只是 Mainstay 自带的小模型。要得到真正的回答,请添加服务商密钥({KEY})"
    '或使用自己的权重(`engine = { model = "<directory>" }`)。',
)
NO_KEY = (
    f"No provider key was found, so there is no site yet. Start Mainstay with one: {KEY}.",
    f"没有找到服务商密钥,所以还没有站点。请带密钥启动:{KEY}。",
)
NO_STATE = (
    "I was not told the state of the sites. Look at the status page, 127.0.0.1:8082.",
    "我没有收到站点状态。请看状态页 127.0.0.1:8082。",
)
