"""Templates of the questions with fixed answers; see `questions.py` for the marks."""

HOW = (
    "{how do I|how can I|how to|how would I|what do I do to|how does one|I want to|help me|"
    "where do I|how should I}"
)
WHAT = "{what is|what's|explain|define|what does|tell me what is|what do you mean by}"
ERR = (
    "{what does|what is|what's|why do I get|I get|I got|explain|what causes|meaning of|why|"
    "it says|what to do about|help with|I see}"
)
怎么 = "{怎么|如何|怎样|我想|请问怎么|请问如何|在哪里}"
什么 = "{什么是|解释一下|请解释|说说什么是}"
为何 = "{什么是|为什么报|为什么出现|为什么返回|出现|返回|解释|报错}"


def _error(name, *more_en):
    """Questions about one code; the Chinese ones are the same for all codes."""
    english = [
        f"{ERR} {{a |an |the |error |code |status |http |}}{name}{{| error| mean| errors}}",
        f"{{error|code|status|http}} {name}", f"{name}", f"{name} {{?|error|why|meaning}}",
        f"my {{request|call|app}} {{failed with|got|returned|gives}} {{a |error |}}{name}",
        f"~how should I {{read|understand|take}} {name}",
        f"~the {{api|server|gateway}} {{answers|replied|came back}} with {name}",
    ]
    chinese = [
        f"{name} {{是什么|是什么意思|怎么办|什么意思|是什么错误}}",
        f"{为何} {name}{{| 错误| 怎么办}}", f"{{错误|报错|状态码}} {name}",
        f"~遇到 {name} {{怎么处理|该怎么办}}",
    ]
    return english + list(more_en), chinese


FIXED = {
    "who": (
        [
            "who are you", "what are you", "what {model|ai|llm} are you",
            "{who|what} am I talking to",
            "are you {chatgpt|gpt|claude|deepseek|qwen|gemini|llama|mainstay|kimi}", "your name",
            "what is your name", "{tell me about|introduce|describe} yourself",
            "who is {this|there|answering}", "which model {is this|answers|are you}",
            "~what should I call you", "~which {ai|model} do I talk to", "~say who you are",
        ],
        [
            "你是{谁|什么|什么模型|哪个模型|什么东西}", "{你叫什么|你的名字}{|是什么}", "介绍{一下|}{你|}自己",
            "你是 {GPT|Claude|DeepSeek|Qwen} 吗", "~{您|你}是哪位", "~我在和{谁|哪个模型}{说话|聊天}",
        ],
    ),
    "hello": (
        [
            "{hello|hi|hey|hallo|good morning|good evening|good afternoon|greetings|yo|hiya|hi "
            "there|hello there|hey there|hello mainstay|hi mainstay}",
            "hello {world|friend|bot|you|again}", "anyone {there|home}", "are you there",
            "{test|testing|ping}", "~good day", "~hey {you|mainstay}",
        ],
        [
            "{你好|您好|嗨|早上好|晚上好|下午好|在吗|哈喽|喂|你好啊|早}", "有人吗", "~{大家好|你好你好|在不在}",
        ],
    ),
    "how_are_you": (
        [
            "how are you{| doing| today| feeling}", "how do you {do|feel}",
            "are you {ok|okay|well|alright}", "how is it going", "what's {up|new} with you",
            "~how have you been", "~you ok",
        ],
        [
            "你{好吗|怎么样|还好吗}", "{最近|今天}{怎么样|好吗}", "~你{今天|}还好吧",
        ],
    ),
    "thanks": (
        [
            "{thanks|thank you|thx|many thanks|thanks a lot|thank you very much|cheers|great, "
            "thanks|ok thanks|perfect, thank you|nice, thanks}",
            "that {helps|helped}{|, thanks}",
            "{good|great|well done|nice|perfect|cool|awesome|ok|okay}",
            "~thanks {for your help|so much}", "~much {appreciated|obliged}",
        ],
        [
            "{谢谢|多谢|感谢|谢谢你|非常感谢|好的谢谢|谢了}", "{好的|好|明白了|知道了}", "~{十分|太}感谢{你|}{了|}",
        ],
    ),
    "bye": (
        [
            "{bye|goodbye|see you|good night|bye bye|farewell|cu|see you later|that is all}",
            "~{until next time|take care}",
        ],
        [
            "{再见|拜拜|晚安|下次见}", "~{回头见|先这样}",
        ],
    ),
    "sorry": (
        [
            "{sorry|my mistake|I am sorry|oops|pardon|never mind|forget it|excuse me}",
            "~{my bad|apologies}",
        ],
        [
            "{对不起|抱歉|不好意思|算了|没事了}", "~{打扰了|我错了}",
        ],
    ),
    "can_do": (
        [
            "what can you {do|answer|help with|tell me}",
            "what {do you know|are you good for|can I ask you|questions can you answer}",
            "help{| me}", "{can|could} you help{| me}",
            "what are your {abilities|skills|limits|limitations}", "how can you help{| me}",
            "what {should|may} I ask", "~what are you able to do",
            "~which {things|questions} do you {understand|know}",
        ],
        [
            "你{能|会|可以}{做什么|干什么|回答什么|帮我什么}", "{帮助|帮帮我|怎么用你|我能问什么}", "你有什么{功能|用}",
            "~你{都|}{知道|懂}{什么|些什么}",
        ],
    ),
    "human": (
        [
            "are you {human|a human|a person|a robot|a bot|real|alive|a machine}",
            "am I talking to a {human|person|bot|robot|machine}",
            "is this a {bot|human|real person}", "~do I speak with a {person|machine}",
        ],
        [
            "你是{人|真人|机器人|人类|程序}吗", "~{这是|对面是}{真人|机器人}吗",
        ],
    ),
    "mainstay": (
        [
            "what is {mainstay|this|this service|this system}",
            "{explain|describe|tell me about} mainstay", "what does mainstay do",
            "what is mainstay {for|good for}", "why {should I use|use} mainstay",
            "~what kind of {thing|software} is mainstay", "~what is the point of mainstay",
        ],
        [
            "{什么是 Mainstay|Mainstay 是什么|介绍 Mainstay|介绍一下 Mainstay|Mainstay 有什么用|这是什么}",
            "~Mainstay {是做什么的|干什么用}",
        ],
    ),
    "e429": _error(
        "429", f"{ERR} {{rate limit|rate_limit_exceeded|too many requests|rate limited}}",
        "why am I {rate limited|throttled|limited}", "too many requests",
    ),
    "e503": _error("503", f"{ERR} service unavailable"),
    "e502": _error("502", f"{ERR} bad gateway"),
    "e504": _error(
        "504", f"{ERR} gateway timeout",
        f"{ERR} {{timeout|timeout_error|a time out|deadline exceeded|timed out|deadline}}",
        "my request {timed out|took too long|ran out of time}",
    ),
    "e401": _error(
        "401",
        f"{ERR} {{403|unauthorized|invalid key|invalid api key|key refused|a refused "
        f"key|invalid_api_key}}",
        "{the provider|a provider|my provider|a site} {refuses|rejects|does not accept} "
        "{the|its|my} key",
        "my {provider |}key is {refused|rejected|invalid|not accepted|wrong}", "403",
    ),
    "e402": _error(
        "402",
        f"{ERR} {{no credit|insufficient balance|insufficient quota|billing error|payment "
        f"required|insufficient_quota}}",
        "what if the {account|provider} has no {credit|money|balance}",
    ),
    "e400": _error(
        "400", f"{ERR} {{bad request|413|context too long|content policy|invalid request}}",
        "my {prompt|request} is too long",
    ),
    "e404": _error(
        "404", f"{ERR} {{model not found|unknown model|model_not_found}}",
        "why is my model {not found|unknown}",
    ),
    "overloaded": _error(
        "overloaded", "why {are you|is it|is mainstay} overloaded", f"{ERR} overloaded_error",
    ),
    "no_site": _error("no_site", f"{ERR} no site"),
    "upstream_failed": _error("upstream_failed", f"{ERR} upstream failed"),
    "empty_answer": _error(
        "empty_answer", f"{ERR} empty answer",
        "{why is the answer|the answer is|why do I get an answer that is} empty",
    ),
    "e_other": _error("@E"),
    "add_site": (
        [
            f"{HOW} {{add|create|set up|configure|define|register|connect}} {{a|another|a "
            f"new|one more|my}} {{site|upstream|backend}}",
            "{add|new|create|configure} {a |}site",
            "what does a {[[site]]|site} {block|entry|section} look like",
            "example of a {site|[[site]]}",
            "{how do I|how to} write a {[[site]]|site} {block|section|in toml}",
            "~{show|give} me a site in toml", "~what must I write to get {a|another} site",
        ],
        [
            f"{怎么}{{添加|增加|新建|配置|加}}{{一个|新|}}{{站点|上游}}", "{添加|新增|配置}站点", "站点{怎么|如何}{配置|写|添加}",
            "~{给我|写}一个站点{的|}{配置|例子}",
        ],
    ),
    "add_own_site": (
        [
            f"{HOW} {{add|connect|use|configure|set up|run}} {{my own|our|my|a|an own}} {{data "
            f"center|datacenter|vllm|sglang|llama.cpp|gpu server|vllm "
            f"server|worker|workers|gpus|cluster}}",
            "{add|connect} {a |}{vllm|sglang|llama.cpp} {worker|server|site}",
            "{can|does} {it|mainstay} use {my|our} own {gpus|servers|vllm|hardware}",
            "~where do my own {vllm servers|gpus|workers} go",
            "~I {have|run} a vllm server, how do I use it",
        ],
        [
            f"{怎么}{{添加|接入|使用|配置}}{{自己的|我的|自有|}}{{机房|数据中心|vllm|sglang|GPU|工作机}}",
            "~我有自己的{机器|GPU|vllm},怎么{用|接入}",
        ],
    ),
    "add_node": (
        [
            f"{HOW} {{add|connect|link|configure}} {{a|another}} {{remote node|remote data "
            f"center|node|remote mainstay|data center elsewhere|mainstay node}}",
            "{add|link} {a |}{node|remote node|remote site}",
            "~how do two {mainstay|data center} nodes {find|reach} each other",
        ],
        [
            f"{怎么}{{添加|连接|配置}}{{远程|另一个|其他}}{{节点|机房的节点|数据中心节点}}", "~另一个机房的节点怎么连",
        ],
    ),
    "add_key": (
        [
            f"{HOW} {{add|set|use|enter|give|configure|put|provide}} {{a|my|the|another|an}} "
            f"{{provider key|deepseek key|provider api key|key of a provider|dashscope key|key "
            f"for a provider|openai key|qwen key|provider's key|kimi key|provider}}",
            "{add|set|new} {a |}{provider key|provider|deepseek key}",
            "where {does|do|should} {my|the} {provider key|deepseek key|provider keys} go",
            f"{HOW} {{connect|add|start with|use}} {{deepseek|qwen|dashscope|kimi|openai|a "
            f"provider}}",
            "what is the {variable|environment variable} for {the key|a provider key|deepseek}",
            f"{HOW} {{start|run}} mainstay", "DEEPSEEK_API_KEY",
            "I have a {deepseek|provider|qwen|openai} key{|, what now|, where does it go}",
            "how do I get {real|better} answers", "~how does mainstay {find|get} my provider key",
            "~I {bought|just got} a key {from|at} {deepseek|a provider}",
            "~into which variable goes the {provider|deepseek} key",
        ],
        [
            f"{怎么}{{添加|设置|配置|填|放}}{{服务商|供应商|DeepSeek|提供商|通义|上游}}{{的|}}{{密钥|key|API 密钥|}}",
            "{添加|设置}{服务商|供应商|DeepSeek}{密钥|key}", "{服务商|DeepSeek}{密钥|的 key}{放|填|写}{哪里|在哪}",
            f"{怎么}{{启动|运行}} Mainstay", "怎么{接入|使用|连接}{DeepSeek|通义|服务商}", "怎么得到{真正的|更好的}回答",
            "~我有{DeepSeek|服务商}的密钥,{怎么用|放哪里}",
        ],
    ),
    "add_model": (
        [
            f"{HOW} {{add|create|set up|configure|define|register|offer}} {{a|another|a new|one "
            f"more|my}} model{{| name}}",
            "{add|new|create|configure} {a |}model",
            "what does a {[[model]]|model} {block|entry|section} look like",
            "example of a {[[model]]|model entry|model block}",
            "how do I {name|rename|map} a model", "~show me a model in toml",
            "~what must I write to {offer|get} {a|another} model",
        ],
        [
            f"{怎么}{{添加|增加|新建|配置|加}}{{一个|新|}}模型", "{添加|新增|配置}模型", "模型{怎么|如何}{配置|写|添加}",
            "~{给我|写}一个模型{的|}配置",
        ],
    ),
    "add_substitute": (
        [
            f"{HOW} {{add|create|set up|configure|define|set|choose}} {{a|another|the|some}} "
            f"{{substitute|substitutes|fallback|fallback model|backup model|replacement "
            f"model|substitute model}}",
            "{add|set|configure} {a |}{substitute|fallback|backup model}",
            "where do {substitutes|fallbacks} go", "~what do I write for a {fallback|substitute}",
            "~how does a model get a {backup|substitute}",
        ],
        [
            f"{怎么}{{添加|设置|配置|指定|加}}{{一个|}}{{替代模型|备用模型|后备模型|替代}}", "{添加|设置}{替代模型|备用模型}",
            "~备用模型{写在哪里|怎么写}",
        ],
    ),
    "add_api_key": (
        [
            f"{HOW} {{add|create|make|issue|generate|get}} {{an|a new|another|a}} {{api "
            f"key|client key|key for a client|key for my app|mainstay key|key for a user|user "
            f"key}}",
            "{add|new|create|generate|issue} {an |}api key",
            f"{HOW} give {{a client|a user|my team|my app}} {{a key|an api key|access}}",
            "api keys for {clients|users|my team}", "~what creates an api key",
            "~my {client|colleague|app} needs a key",
        ],
        [
            f"{怎么}{{创建|添加|生成|新建|申请}}{{一个|}}{{API 密钥|API key|客户端密钥|用户密钥|访问密钥}}",
            "{创建|新建|生成} {API 密钥|API key}", "怎么给{客户|用户|团队}{发|一个}密钥",
            "~给{同事|应用}{发|开}一个{访问密钥|API 密钥}",
        ],
    ),
    "list_keys": (
        [
            "{list|show} {the|my|all|all the} {api keys|keys|client keys}",
            f"{HOW} {{list|see|show}} {{the|my|all}} {{api keys|client keys|keys}}",
            "{which|what} {api keys|keys} {are there|exist|did I create}",
            "~let me see the api keys",
        ],
        [
            f"{怎么}{{查看|列出}}{{所有|}} {{API 密钥|密钥|API key}}", "{列出|查看}{API 密钥|所有密钥}",
            "~有哪些{API 密钥|密钥}",
        ],
    ),
    "revoke_key": (
        [
            f"{HOW} {{revoke|delete|remove|disable|block|cancel}} {{an|a|the|my}} {{api "
            f"key|client key|key}}",
            "{revoke|delete|remove} {an |a |}{api key|key}", "my {api |}key {leaked|was stolen}",
            "~how do I get rid of {an api key|a leaked key}",
        ],
        [
            f"{怎么}{{撤销|删除|吊销|禁用}}{{一个|}} {{API 密钥|密钥|API key}}", "{撤销|删除|吊销}密钥", "~密钥泄露了{怎么办|}",
        ],
    ),
    "list_models": (
        [
            f"{HOW} {{list|see|query|get|show}} {{the|all|available|all the}} {{models|model "
            f"names|list of models}}{{| with the api| over http|}}",
            "{endpoint|api call|request|url} {to list|for listing|for} {the |}models",
            "/v1/models", "~which call returns the models",
        ],
        [
            f"{怎么}{{列出|查看|查询|获取}}{{所有|可用|}}模型{{|列表}}", "模型列表{接口|在哪里看}", "~哪个接口{返回|给出}模型",
        ],
    ),
    "add_tier": (
        [
            f"{HOW} {{add|create|set up|configure|define|change}} {{a|another|a new|the}} "
            f"{{tier|service class|free tier|rate limit|limit}}{{| in toml}}",
            "{add|new|configure} {a |}tier",
            "{how do I|how to} {limit requests|set limits|limit requests per minute|limit a user}",
            "~show me a tier in toml",
        ],
        [
            f"{怎么}{{添加|配置|设置|新建}}{{一个|}}{{等级|服务等级|限额|每分钟限制}}", "~写一个等级的配置",
        ],
    ),
    "own_weights": (
        [
            f"{HOW} {{use|run|load|add|serve|host}} {{my own|own|my|other|our|custom}} "
            f"{{weights|model files|safetensors|checkpoint|model weights|fine-tuned "
            f"model|gguf|gguf file}}",
            "{can I|can you|may I} {use|load|run} {my own weights|own weights|a gguf|a gguf "
            "file|safetensors|another model file}",
            "{own|my own|custom} weights", "where do {my|the} weights go",
            "{run|use|load} a {gguf|local model|local file}", f"{HOW} {{run|use}} a local model",
            "~I have {a gguf file|safetensors|a directory of weights}",
            "~how does the engine load {weights|a local model}",
        ],
        [
            f"{怎么}{{使用|加载|运行|用}}{{自己的|我的|自有|本地}}{{权重|模型|模型文件|GGUF|safetensors}}",
            "{能|可以}用自己的{权重|模型}吗", "{自己的|自有|本地}权重", "~我有{权重文件|GGUF 文件},怎么{用|加载}",
        ],
    ),
    "base_url": (
        [
            f"{HOW} {{add|use|connect}} {{an|any|another|my}} {{openai-compatible server|openai "
            f"compatible provider|custom provider|compatible api|openai-compatible "
            f"provider|custom base url}}",
            f"{HOW} {{set|change|override}} {{the|a}} base_url", "{base_url|custom base url}",
            "~my provider is not built in",
        ],
        [
            f"{怎么}{{接入|添加|使用}}{{兼容 OpenAI|OpenAI 兼容|自定义}}的{{服务|服务商|接口}}",
            "{怎么|如何}{设置|修改} base_url", "~我的服务商{没有内置|不在列表里}",
        ],
    ),
    "start_config": (
        [
            f"{HOW} {{start|run|serve|use}} {{with|from|it with|mainstay with}} {{a|my|the}} "
            f"{{config|config file|configuration|toml file|mainstay.toml}}",
            "where is {the config|the configuration|mainstay.toml} used",
            "run mainstay with mainstay.toml", "~what command reads mainstay.toml",
        ],
        [
            f"{怎么}用{{配置文件|mainstay.toml}}{{启动|运行}}{{| Mainstay}}", "~哪个命令读配置文件",
        ],
    ),
    "capacity": (
        [
            f"{HOW} {{set|limit|change}} {{the|a}} {{capacity|concurrency|number of concurrent "
            f"requests}} of {{a site|a provider|an account}}",
            "{what is|what does} {capacity|the capacity key} {|mean|do|in a site}", "capacity",
            "~what is capacity in a [[site]] for",
        ],
        [
            f"{怎么}{{设置|限制}}{{站点|服务商|账户}}的{{容量|并发}}", "~capacity 是什么{意思|}",
        ],
    ),
    "listen": (
        [
            f"{HOW} {{change|set|move}} {{the|my}} {{port|listen address|api port|listener|api "
            f"address}}",
            "{which|what} port {does mainstay use|is used|is the api on}",
            f"{HOW} {{listen on|expose the api to|open the api to}} {{all interfaces|the "
            f"network|other machines}}",
            "what is allow_anonymous", "~can the api run on {another|a different} port",
        ],
        [
            f"{怎么}{{修改|设置|改}}{{端口|监听地址}}", "{用|是}{哪个|什么}端口", "~端口{能改吗|在哪改}",
        ],
    ),
    "tier": (
        [
            f"{WHAT} {{a |the |}}{{tier|tiers|service class|tier mean}}",
            "{which|what} tiers {are there|exist}", "tiers",
            "{who|which requests} {is|are} {refused|dropped|shed} first", "~what are tiers for",
            "~the meaning of tier",
        ],
        [
            f"{什么}等级", "等级{是什么|有哪些|什么意思}", "先拒绝谁", "~{服务|}等级有什么用",
        ],
    ),
    "substitute": (
        [
            f"{WHAT} {{a |the |}}{{substitute|substitutes|substitute model|substitute "
            f"mean|fallback model}}",
            "substitutes", "what are substitutes{| for}", "~when is a substitute used",
            "~the meaning of substitute",
        ],
        [
            f"{什么}{{替代模型|替代}}", "{替代模型|substitutes} {是什么|什么意思|有什么用}", "~什么时候用替代模型",
        ],
    ),
    "failover": (
        [
            f"{WHAT} {{a |the |}}{{failover|fail over|failover mean}}",
            "how does {failover|the failover} work", "failover",
            "what happens {when|if} {a site|a provider|one provider|an upstream} {fails|goes "
            "down|dies|breaks}",
            "{do|can} you {fail over|switch}{| automatically| by yourself}",
            "~what does mainstay do when a {provider|site} dies", "~the meaning of failover",
        ],
        [
            f"{什么}故障转移", "故障转移{是什么|怎么工作|什么意思}", "{站点|服务商}{挂了|中断|出故障}{会怎样|怎么办}", "~会自动切换{站点|}吗",
        ],
    ),
    "site": (
        [
            f"{WHAT} {{a |the |}}{{site|site mean}}{{| in mainstay}}",
            "what {are sites|counts as a site}", "~the meaning of site",
        ],
        [
            f"{什么}站点", "站点{是什么|什么意思}", "~站点指的是什么",
        ],
    ),
    "served_by": (
        [
            f"{WHAT} {{served_by|served by|served_by mean}}", "served_by",
            "~what goes into served_by",
        ],
        [
            "served_by {是什么|什么意思|怎么写}", "~served_by 有什么用",
        ],
    ),
    "resume": (
        [
            "what happens {to my answer|to a stream|to the stream} when {it breaks|the stream "
            "breaks|the connection breaks|a site dies|a provider fails}",
            f"{WHAT} {{resume|resuming|a resume}}",
            "{do I lose|will I lose} {tokens|my answer|half the answer|part of the answer}",
            "what if {the answer stops|a stream breaks|it dies} {half way|in the middle}",
            "~is an answer finished when its provider dies",
        ],
        [
            "流{中断|断了}{会怎样|怎么办}", "{回答|流}{中途|一半}{断了|中断}{怎么办|会丢吗}", "~会丢失{回答|内容|token}吗",
        ],
    ),
    "fate": (
        [
            f"{WHAT} {{fate|the fate key|a fate|fate mean}}", "fate", "~what do I put into fate",
        ],
        [
            "fate {是什么|什么意思|怎么写}", "~fate 有什么用",
        ],
    ),
    "degraded": (
        [
            f"{WHAT} {{x-mainstay-degraded|the degraded header|degraded|degraded: embedded}}",
            "x-mainstay-degraded", "~when is x-mainstay-degraded sent",
        ],
        [
            "x-mainstay-degraded {是什么|什么意思}", "~为什么有 x-mainstay-degraded",
        ],
    ),
    "who_answered": (
        [
            "{which|what} {model|site} {really |}answered{| me| my request}",
            "how do I {know|see|find out} {which|what} {model|site|provider} {answered|was "
            "used|replied}",
            f"{WHAT} {{x-mainstay-site|x-mainstay-attempts}}", "~who really answered my request",
        ],
        [
            "怎么知道是{哪个|什么}{模型|站点}{回答的|在回答}", "{哪个|什么}{站点|模型}回答了{我|}", "~在哪里看{实际|真正}回答的模型",
        ],
    ),
    "check": (
        [
            f"{WHAT} {{mainstay check|the check command|a redundancy audit}}",
            f"{HOW} {{check|test|audit|verify}} {{my redundancy|the redundancy|redundancy|my "
            f"setup|my set-up}}",
            "is my redundancy real", "mainstay check", "~which single loss takes me down",
        ],
        [
            "mainstay check {是什么|有什么用|}", f"{怎么}{{检查|测试}}{{冗余|我的冗余}}", "~我的冗余是真的吗",
        ],
    ),
    "simulate": (
        [
            f"{WHAT} {{mainstay simulate|the simulate command|the simulator}}",
            f"{HOW} {{simulate|play|rehearse}} {{an outage|a failure|a scenario}}",
            "mainstay simulate", "~can I rehearse an outage without breaking things",
        ],
        [
            "mainstay simulate {是什么|有什么用|}", f"{怎么}{{模拟|演练}}{{故障|中断}}", "~能模拟一次中断吗",
        ],
    ),
    "drill": (
        [
            f"{WHAT} {{mainstay drill|the drill command|a drill}}",
            f"{HOW} {{drill|test a failure of|break|inject a fault into}} {{a site|a real "
            f"site|the real path}}",
            "mainstay drill", "~how do I break a site on purpose",
        ],
        [
            "mainstay drill {是什么|有什么用|}", f"{怎么}{{真实演练|注入故障}}", "~怎么故意弄坏一个站点",
        ],
    ),
    "drain": (
        [
            f"{WHAT} {{mainstay drain|drain|drained|undrain|a drain}}",
            f"{HOW} {{drain|undrain|take out|take down|stop using|switch off}} {{a site|one "
            f"site|a provider}}",
            "{drain|undrain} a site", "~how do I put a site out of use",
        ],
        [
            "{drain|mainstay drain} {是什么|怎么用|}", f"{怎么}{{下线|停用|排空|恢复}}{{一个|}}站点", "~怎么让站点退出服务",
        ],
    ),
    "top": (
        [
            f"{HOW} {{watch|see}} {{it live|live traffic|the live view|what happens live}}",
            f"{WHAT} mainstay top", "mainstay top", "{live|terminal} view",
            "~a live view in the terminal please",
        ],
        [
            "mainstay top {是什么|}", f"{怎么}{{实时查看|看实时情况}}", "~有实时界面吗",
        ],
    ),
    "usage": (
        [
            f"{HOW} {{see|show|get|check}} {{my|the}} {{usage|token usage|consumption}}",
            "{usage|my usage|mainstay usage}", "how many tokens {did I use|were used|have I used}",
            "~what did I consume",
        ],
        [
            f"{怎么}{{查看|看}}{{用量|使用量|消耗}}", "{用量|我用了多少 token}", "~用量统计在什么地方",
        ],
    ),
    "status_page": (
        [
            "{where is|what is|show me|link to} the {status page|public page|public status page}",
            "status page", "do you have a status page", "~which address has the public page",
        ],
        [
            "状态页{在哪里|地址|在哪|}", "有状态页吗", "~公开页面的地址",
        ],
    ),
    "metrics": (
        [
            "where are {the|your} metrics",
            f"{HOW} {{get|scrape|see|read}} {{the |}}{{metrics|prometheus metrics}}",
            "{metrics|prometheus|admin port|console}",
            "where is the {console|admin page|admin listener}", "~what port has the metrics",
        ],
        [
            "{指标|监控|控制台|metrics} {在哪里|在哪|}", f"{怎么}{{查看|获取}}指标", "~prometheus 从哪里抓",
        ],
    ),
}
