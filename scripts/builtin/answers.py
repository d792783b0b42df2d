"""The fixed answers of the builtin model: one English and one Chinese text per intent.

Everything an operator would type, and every name that a program reads, is a slot whose text stands in
`guide.json`, where tests hold it against the program: the model cannot misspell one. Texts are short
on purpose: the model learns them by heart, and each token costs training time. Facts that change are
slots too, see `state.py`.
"""

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
        "429 `[word:rate]`: you reached the limit of your own key. Wait as long as [word:retry] says.",
        "429 `[word:rate]`:您的密钥达到了限额。请按 [word:retry] 等待。",
    ),
    "e503": (
        "503 means that Mainstay has no capacity for you now: `[word:overloaded]` when the sites are "
        "full, `[word:no_site]` when none is usable. Wait as long as [word:retry] says.",
        "503 表示 Mainstay 现在没有容量:站点已满是 `[word:overloaded]`,没有可用站点是 `[word:no_site]`。请按 "
        "[word:retry] 等待。",
    ),
    "e502": (
        "502 means that every attempt at a site failed (`[word:upstream]`) or the answers were empty "
        "(`[word:empty]`). The message says what was tried. Try again in a few seconds.",
        "502 表示对各站点的尝试都失败了(`[word:upstream]`),或者回答是空的(`[word:empty]`)。报错里写明了尝试过程。请几秒后重试。",
    ),
    "e504": (
        "504 `[word:deadline]`: the time of the request ran out before an answer was complete. Try "
        "again, or ask for a shorter answer.",
        "504 `[word:deadline]`:回答完成之前请求的时间用完了。请重试,或要求更短的回答。",
    ),
    "e401": (
        "401 `[word:invalid_key]` means that Mainstay does not know your key. If a provider refuses "
        "its key, check the variable that `[word:key_env]` of that site names; other sites answer "
        "meanwhile.",
        "401 `[word:invalid_key]` 表示 Mainstay 不认识您的密钥。如果是服务商拒绝了密钥,请检查该站点 `[word:key_env]` "
        "指定的变量;其间由其他站点回答。",
    ),
    "e402": (
        "The account at the provider has no credit. Top it up; Mainstay asks that site again every "
        "5 minutes and uses other sites meanwhile.",
        "服务商账户余额不足。请充值;Mainstay 每 5 分钟再问一次,其间使用其他站点。",
    ),
    "e400": (
        "400 means that the request itself is wrong, for instance too long or not allowed. Change the "
        "request; trying again does not help.",
        "400 表示请求本身有问题,例如太长或不被允许。请修改请求,重试没有用。",
    ),
    "e404": (
        "404 `[word:unknown]`: Mainstay knows no model of that name. `[word:models]` lists the models.",
        "404 `[word:unknown]`:Mainstay 没有这个名字的模型。`[word:models]` 列出所有模型。",
    ),
    "overloaded": (
        "503 `[word:overloaded]`: the sites are full for your tier. Lower tiers are refused first. "
        "Wait as long as [word:retry] says.",
        "503 `[word:overloaded]`:对您的等级来说站点已满,低等级先被拒绝。请按 [word:retry] 等待。",
    ),
    "no_site": (
        "503 `[word:no_site]`: no site is usable now, because each one is down, refuses its key, has "
        "no credit or no longer has the model.",
        "503 `[word:no_site]`:现在没有可用的站点,它们中断、拒绝密钥、余额不足或不再提供该模型。",
    ),
    "upstream_failed": (
        "502 `[word:upstream]`: every attempt at a site failed. The message says what was tried. Try "
        "again in a few seconds.",
        "502 `[word:upstream]`:对各站点的尝试都失败了,报错里写明了尝试过程。请几秒后重试。",
    ),
    "empty_answer": (
        "502 `[word:empty]`: the provider said success but sent no text. Try again in a few seconds.",
        "502 `[word:empty]`:服务商返回成功,但没有内容。请几秒后重试。",
    ),
    "e_other": (
        "I do not know that code. The message of the error says what was tried. The codes of Mainstay "
        "are 400, 401, 404, 429, 502, 503 and 504.",
        "我不认识这个代码。报错信息写明了尝试过程。Mainstay 的代码有 400、401、404、429、502、503 和 504。",
    ),
    # set-up
    "add_site": (
        "Put this into [word:file]:\n[toml:site]\nThen run `[run:serve]`.",
        "写入 [word:file]:\n[toml:site]\n然后运行 `[run:serve]`。",
    ),
    "add_own_site": (
        "Put your server into [word:file]:\n[toml:vllm]\nThen run `[run:serve]`.",
        "把您的服务写入 [word:file]:\n[toml:vllm]\n然后运行 `[run:serve]`。",
    ),
    "add_node": (
        "Make certificates with `mainstay node init`, then put the other node into [word:file]:\n"
        "[toml:node]",
        "先用 `mainstay node init` 生成证书,再把另一个节点写入 [word:file]:\n[toml:node]",
    ),
    "add_key": (
        "Put the key into the environment and start Mainstay: `[run:key]`. Each provider key found "
        "there becomes a site; several work too: `[run:keys]`.",
        "把密钥放进环境变量再启动:`[run:key]`。找到的每个服务商密钥都会成为一个站点,也可以放多个:`[run:keys]`。",
    ),
    "add_model": (
        "Name the model in [word:file]:\n[toml:model]",
        "在 [word:file] 里写上模型:\n[toml:model]",
    ),
    "add_substitute": (
        "Add a line to the [word:model] in [word:file]:\n[toml:substitutes]\nThey are tried in order "
        "when no equal site can answer.",
        "在 [word:file] 的 [word:model] 里加一行:\n[toml:substitutes]\n没有同等站点能回答时按顺序尝试。",
    ),
    "order": (
        "The order of `[word:served_by]` is the order in which sites are asked:\n[toml:order]",
        "`[word:served_by]` 里的顺序就是询问站点的顺序:\n[toml:order]",
    ),
    "add_api_key": (
        "Run `[run:create]`: it shows the key once and appends these lines:\n[toml:key]",
        "运行 `[run:create]`:密钥只显示一次,并会追加这些行:\n[toml:key]",
    ),
    "list_keys": (
        "The keys are the [word:key] blocks in [word:file]; only their hashes are kept.",
        "密钥就是 [word:file] 里的 [word:key] 段,只保存哈希。",
    ),
    "revoke_key": (
        "Delete its [word:key] block from [word:file], then `[run:reload]`.",
        "从 [word:file] 删除它的 [word:key] 段,然后 `[run:reload]`。",
    ),
    "reload": (
        "Change [word:file], then send SIGHUP or `[run:reload]`. Nothing running is cut off; "
        "`[run:look]` looks at the file first.",
        "修改 [word:file],然后发送 SIGHUP 或 `[run:reload]`。正在进行的回答不会中断;`[run:look]` 可以先检查文件。",
    ),
    "list_models": ("Ask the API: `[word:models]`.", "调用接口:`[word:models]`。"),
    "add_tier": (
        "Name the tier in [word:file]; the floor is its share of capacity that no other tier can "
        "take:\n[toml:tier]",
        "在 [word:file] 里写上等级;floor 是其他等级拿不走的容量份额:\n[toml:tier]",
    ),
    "own_weights": (
        "Give a site your directory of safetensors or a GGUF file:\n[toml:engine]\n`[run:show]` tells "
        "what it takes.",
        "给站点指定 safetensors 目录或 GGUF 文件:\n[toml:engine]\n`[run:show]` 说明它需要多少内存。",
    ),
    "base_url": (
        'The provider "openai" is any OpenAI-compatible server:\n[toml:openai]',
        '"openai" 表示任何兼容 OpenAI 的服务:\n[toml:openai]',
    ),
    "start_config": ("Run `[run:serve]`.", "运行 `[run:serve]`。"),
    "capacity": (
        "`[toml:capacity]` in a [word:site] is how many concurrent requests the account allows. Unset, "
        "it is learned.",
        "[word:site] 里的 `[toml:capacity]` 是账户允许的并发请求数。不设置则自动学习。",
    ),
    "listen": (
        "Set the address in [word:file]:\n[toml:listen]\nBeyond loopback it needs a [word:key], or "
        "`[toml:anonymous]`.",
        "在 [word:file] 里设置地址:\n[toml:listen]\n对外监听需要 [word:key],或 `[toml:anonymous]`。",
    ),
    # concepts
    "tier": (
        "A tier is a service class: enterprise, pro, free or batch. When capacity is short, the "
        "lowest tier is refused first.",
        "等级是服务级别:enterprise、pro、free、batch。容量不足时先拒绝最低的等级。",
    ),
    "substitute": (
        "A substitute is another model that answers, in the order you set, when no site with the same "
        "weights can. The response names the model that really answered.",
        "替代模型是在没有同样权重的站点能回答时,按您设定的顺序来回答的另一个模型。响应会写明真正回答的模型。",
    ),
    "failover": (
        "When a site fails, the request goes on at another one. Mainstay does it by itself, in the "
        "middle of an answer too.",
        "一个站点出故障时,请求在另一个站点继续。Mainstay 会自动完成,回答进行到一半也可以。",
    ),
    "site": (
        "A site is a failure domain that can answer: one of your data centers or one provider "
        "account.",
        "站点是能回答请求的一个故障域:一个自有机房,或一个服务商账户。",
    ),
    "served_by": (
        "`[word:served_by]` lists the sites with the same weights for a model, in order of preference.",
        "`[word:served_by]` 按优先顺序列出拥有同一模型权重的站点。",
    ),
    "resume": (
        "An answer once begun is finished: when the stream breaks, another site goes on, with no "
        "token lost and none twice, or you get an explicit error.",
        "已经开始的回答会完成:流中断时由另一个站点继续,不丢也不重复,否则给出明确的报错。",
    ),
    "fate": (
        "`[toml:fate]` says what a site shares with others: what dies together. `[run:check]` counts "
        "on it.",
        "`[toml:fate]` 写明站点与其他站点共有的东西:会一起失效。`[run:check]` 会用到它。",
    ),
    "degraded": (
        "`[word:degraded]` says that the embedded engine answered in place of a larger model.",
        "`[word:degraded]` 表示由内置引擎代替大模型回答。",
    ),
    "who_answered": (
        "The field `model` names the model that really answered; the headers `[word:by_site]` and "
        "`[word:by_attempts]` say where and after how many attempts. `[run:explain]` tells why.",
        "`model` 字段写明真正回答的模型;`[word:by_site]` 和 `[word:by_attempts]` 写明站点和尝试次数。`[run:explain]` "
        "说明原因。",
    ),
    # commands
    "check": (
        "`[run:check]` audits your redundancy: what each loss would do to you, and the line to change.",
        "`[run:check]` 检查冗余:每种损失的后果,以及要改的那一行。",
    ),
    "simulate": (
        "`[run:simulate]` plays an outage in virtual time and shows what would happen.",
        "`[run:simulate]` 在虚拟时间里演练一次故障并展示结果。",
    ),
    "drill": (
        "`[run:drill]` breaks a site on purpose for a small part of the traffic, and stops by itself.",
        "`[run:drill]` 故意让站点对一小部分流量出故障,并会自动停止。",
    ),
    "drain": (
        "`[run:drain]` gives a site no new work. `[run:orders]` lists such orders, `[run:undrain]` "
        "ends one.",
        "`[run:drain]` 让站点不再接新请求。`[run:orders]` 列出命令,`[run:undrain]` 结束其中一个。",
    ),
    "demo": (
        "`[run:demo]` starts a small fleet on this machine, with a load and things to break.",
        "`[run:demo]` 在本机启动一个小集群,带有负载和可以弄坏的东西。",
    ),
    "top": (
        "Run `[run:top]` for a live view in the terminal.",
        "运行 `[run:top]` 在终端查看实时情况。",
    ),
    "usage": (
        "Requests and tokens are counted in the metrics: `[word:metrics]`.",
        "请求数和 token 数在指标里:`[word:metrics]`。",
    ),
    "status_page": (
        "The public status page is at `[word:page]`, unless you changed it.",
        "公开的状态页在 `[word:page]`,除非您改过。",
    ),
    "metrics": (
        "Metrics are at `[word:metrics]`, on the admin listener.",
        "指标在 `[word:metrics]`,即 admin 监听地址。",
    ),
}

REFUSE = (
    "I cannot answer that: I am only the small built-in model of Mainstay. For real answers add a "
    "provider key: `[run:key]`.",
    "这个我答不了:我只是 Mainstay 自带的小模型。要得到真正的回答,请添加服务商密钥:`[run:key]`。",
)
NO_KEY = (
    "No provider key was found, so there is no site yet. Start Mainstay with one: `[run:key]`.",
    "没有找到服务商密钥,所以还没有站点。请带密钥启动:`[run:key]`。",
)
NO_STATE = (
    "I was not told the state of the sites. Look at the status page: `[word:page]`.",
    "我没有收到站点状态。请看状态页:`[word:page]`。",
)
