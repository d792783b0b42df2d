"""More ways to ask for fixed answers; see `questions.py` for the marks."""

DO = "{how do I|how can I|how to|how should I|how do we|what is the way to|I need to|I would like to|show me how to|steps to|what must I do to|can I}"
怎么 = "{怎么|如何|怎样|我要|我需要|想|能不能|教我}"


def _code(number, *more):
    """More questions about a code of HTTP; no template of it is in `questions_fixed.py`."""
    return (
        [
            f"{{what|why|when}} {{is|do I get|do I see|am I getting|does mainstay send|happens at}} {{a |an |error |status |}}{number}",
            f"{{got|getting|seeing|received|have}} {{a |an |error |status |many |}}{number}{{| errors| responses| again}}",
            f"{{meaning|reason|cause}} {{of|for}} {{error |status |http |code |}}{number}",
            f"{{the |my |}}{{app|client|api|gateway|mainstay|server|request}} {{says|shows|sends|returned|got|fails with}} {{error |status |http |}}{number}",
            f"{number} {{what now|what to do|help|why|meaning|explained|error}}",
            f"{{http|error|status|code}} {{code |}}{number}{{| meaning| what now| why| means}}",
            f"{{should I|can I}} {{retry|do something}} {{after|about|on}} {{a |}}{number}",
            f"~{{hit|ran into}} {{a |}}{number}", f"~{number} keeps coming",
        ] + list(more),
        [
            f"{{返回|收到|报|出现|看到|得到|老是}}{{了|}}{{错误|状态码|}} {number}{{|怎么办|是什么意思|怎么回事}}",
            f"{number} {{什么意思|怎么办|怎么回事|错误|报错|是什么原因|为什么}}", f"{{HTTP|状态码|错误码|错误|代码}} {number}{{| 的意思| 是什么| 怎么办}}",
            f"{{为什么|怎么}}{{会|老是|}}{{有|报|出现|返回}} {number}", f"~{number} 代表{{什么|啥}}", f"~又是 {number}",
        ],
    )


FIXED = {
    "who": (
        ["{hi|hello|hey}, who are you", "{what|which} {language model|model name|version} {are you|is this|do you run}", "are you {a language model|an ai|the real deepseek|a large model|the built-in model|a big model}", "{who|what} {answers|answered|replies|speaks}{| here}", "{say|tell me} your name", "{identify|present} yourself", "what's your {name|model}", "{who|what} made you answer", "~may I ask who this is", "~which bot am I dealing with"],
        ["{你是|这是}{哪个|什么}{AI|模型|助手|程序|语言模型}", "你是{大模型|人工智能|AI|DeepSeek|通义千问|内置模型}吗", "{谁|什么}在{回答|说话|跟我说话}", "{自我介绍|你的身份|你叫啥|你是啥}{一下|}", "~{报上|说说}你的名字", "~对面是什么模型"],
    ),
    "hello": (
        ["{hey|hi|hello} {mainstay|there|again|bot|all|everyone}", "{good|fine} {morning|day to you|evening}", "{hola|salut|hi!|hello!|helo|hii|heya|sup}", "{is anybody|is someone} there", "~{howdy|ahoy}", "~hello, is this on"],
        ["{您好啊|哈啰|嘿|你好呀|早安|午安|hello|hi}", "{有人在吗|你在吗|测试|测试一下}", "~{喂喂|打个招呼}"],
    ),
    "how_are_you": (
        ["{how are things with you|how do you feel|how's it going|are you fine|how is your day|how you doing}", "are you {happy|tired|busy|bored|feeling well}", "~{hope|trust} you are well"],
        ["{你还好吧|你累吗|你开心吗|过得怎么样|你忙吗}", "~{近来|一切}可好"],
    ),
    "thanks": (
        ["{ty|thanks!|thank you!|thanks again|thank you so much|much thanks|thanks mate}", "{got it|understood|I see|alright|all right|very good|good to know|that works|makes sense}", "~{merci|gracias}", "~{lovely|splendid}"],
        ["{谢啦|谢谢啦|感谢你|麻烦了|辛苦了|谢谢你的帮助}", "{收到|了解|懂了|明白|可以|行|很好}", "~{太好了|有劳}"],
    ),
    "bye": (["{byebye|ciao|later|so long|have a nice day|good bye|that's all|I am done|exit|quit}", "~{adieu|over and out}"], ["{拜|88|再会|我走了|先走了|没别的了}", "~{后会有期|告辞}"]),
    "sorry": (["{sorry!|my fault|oh sorry|wrong question|wrong window|ignore that|nothing|nevermind}", "~{mea culpa|I take it back}"], ["{不好意思啊|我弄错了|抱歉打扰|说错了|没什么}", "~{见谅|当我没说}"]),
    "can_do": (
        ["{help|commands|options|menu|usage help|manual}", "what {kind of|sort of|} {questions|things} {can|may|should} I ask{| you}", "{what|which topics} do you {do|cover|answer|support}", "what {else |}can you {tell me|do|answer|explain}", "{how does this work|how do I use you|what can I do here|what is possible}", "are you {useful|of any use|good at anything|smart}", "~what's in your repertoire", "~give me examples of what you answer"],
        ["{能|可以}{帮|为}我{做什么|干什么|解决什么}", "{有什么|哪些}{功能|命令|用处}", "{我|}{能|可以|该}问{你|}{什么|些什么|哪些问题}", "{帮助|使用说明|怎么用|说明书}", "~你{擅长|精通}什么", "~举例说明你能答什么"],
    ),
    "human": (
        ["{is|am I talking to} {this|a} {person|an ai|automated|computer|real human}", "are you {a computer|a program|an actual person|software|conscious|an assistant}", "{human or bot|bot or human|person or machine}", "~is there a {soul|someone} behind this"],
        ["你是{电脑|活人|真的人|客服}吗", "{人工|真人|机器}{还是}{机器|机器人|人}", "~有{活人|人工}在吗"],
    ),
    "mainstay": (
        ["{what|explain what} is {mainstay|this gateway|this software|this program|the gateway}{| about}", "what {is|does} {this|the} {gateway|server|api|software}{| do| for}", "mainstay", "{purpose|idea|benefit} of mainstay", "{how does|does} mainstay {work|help}", "{what is|define} an llm gateway", "~mainstay in a nutshell", "~in a sentence, what does this program do"],
        ["{这个|这|}{网关|软件|程序|服务|系统}{是什么|是做什么的|有什么用}", "Mainstay", "{什么是|解释}{大模型|LLM|}网关", "{为什么|为啥}{用|要用} Mainstay", "~Mainstay 的{用途|意义}", "~一句话{介绍|讲讲} Mainstay"],
    ),
    "e429": _code("429", "{I am|we are|my key is|am I} {rate limited|throttled|over the limit|over quota}", "{rate limit|rate limits|quota} {exceeded|reached|error|hit}", "what is {a |the |}{rate limit|request limit|quota}", "~{too fast|too often}, says the api"),
    "e503": _code("503", "service unavailable", "{no capacity|unavailable} {error|now|why}"),
    "e502": _code("502", "bad gateway{| error| why}"),
    "e504": _code("504", "gateway timeout{| error| why}", "{timeout|timed out|time out|deadline exceeded}{| error| why| again}", "{requests|calls|my calls|it} {time out|times out|timed out|timing out}", "what is {deadline|the deadline|a timeout|timeout_error}", "deadline{| error| meaning}", "~I {waited|sat} until it {expired|gave up}"),
    "e401": _code("401", "{invalid|wrong|bad|refused|rejected|unknown} {api key|key|provider key|credentials}", "{unauthorized|not authorized|authentication failed|access denied}{| error| why}", "{deepseek|qwen|openai|the provider} {says|reports} {invalid key|unauthorized|wrong key}", "what {does|is} {key refused|a refused key|refuses its key} {mean|}", "~it will not {take|accept} my key"),
    "e402": _code("402", "{no|out of|not enough|insufficient} {credit|money|balance|funds}{| error| at the provider}", "{account|provider} {has no credit|is out of credit|balance is empty|needs a top up}", "{top up|pay|billing}{| error| problem| the provider}", "~the {wallet|purse} is empty"),
    "e400": _code("400", "{prompt|request|message|input} {too long|too large|is too big|not allowed}", "{context length|context_length_exceeded|maximum context|content filter|bad request|invalid request|request_too_large}{| error| why}", "413", "~I {pasted|sent} too much text"),
    "e404": _code("404", "{model|my model|the model} {not found|unknown|does not exist|is missing|not there}", "{no such model|unknown model}{| error| why}", "~it claims my model is not there"),
    "overloaded": _code("overloaded", "{mainstay|gateway|service|server|site} {overloaded|at capacity|too busy|has no room}{| error| why}", "why {are|were} {requests|we|I} {refused|rejected|turned away}", "{overload|overloaded_error}{| error| meaning}"),
    "no_site": _code("no_site", "no site {is |}{left|usable|available}{| error| why}", "{what if|why is} no site {is usable|can answer|usable}"),
    "upstream_failed": _code("upstream_failed", "{upstream|every attempt|all attempts} {failed|fails}{| error| why}"),
    "empty_answer": _code("empty_answer", "{empty|blank|no} {answer|answers|response|text|output}{| error| why}", "the {answer|response|text} {was|came back|is} {empty|blank|missing}", "~it {says|wrote} nothing at all"),
    "e_other": _code("@E"),
    "add_site": (
        [f"{DO} {{add|configure|set up|put in|write|have}} {{a|another|one more|a second|a new}} {{site|upstream|backend|failure domain}}{{| in the config| to mainstay| in toml| to mainstay.toml}}", "{site|[[site]]|upstream} {config|configuration|example|syntax|toml|in toml}", "{more|another|second|new} {site|sites|upstream}{| please| how}", "add {a |another |}{site|upstream|backend}{| to the config| in toml}", "what {goes|do I put|belongs} {in|into} {a |}[[site]]", "~I want {one more|an extra} site, what do I type", "~extend the list of sites"],
        [f"{怎么}{{添加|增加|新增|加|写|配置}}{{一个|新的|第二个|另一个|更多|}}{{站点|上游|后端}}{{|吗}}", "{站点|[[site]]} {配置|例子|示例|写法|怎么写}", "{再|多}加{一个|几个}{站点|上游}", "{新|添加|增加|加}{站点|上游}", "~想{多要|扩充}站点", "~[[site]] {里面|段}写什么"],
    ),
    "add_own_site": (
        [f"{DO} {{add|use|connect|attach|serve from|plug in}} {{my|our|a|own}} {{vllm|sglang|llama.cpp|ollama|inference server|gpu box|gpu machine|gpus|local server|self-hosted model|on-prem cluster}}{{| to mainstay| behind mainstay| here}}", "{vllm|sglang|llama.cpp|ollama|self-hosted|own gpus|own workers}{| config| example| setup| with mainstay}", "{does|will} mainstay {work with|support|talk to} {vllm|sglang|llama.cpp|ollama|my gpus}", "~there is a {gpu|vllm} machine in our rack, now what", "~put my own hardware to use"],
        [f"{怎么}{{添加|接入|连接|用|使用}}{{自己的|我们的|自建的|本地的|}}{{vLLM|SGLang|llama.cpp|ollama|推理服务|GPU 服务器|显卡|集群}}", "{vLLM|SGLang|ollama|自建|自有机器}{配置|接入|怎么配|支持吗}", "{支持|能用} {vLLM|SGLang|ollama} 吗", "~机房里有{显卡|GPU},怎么用起来"],
    ),
    "add_node": (
        [f"{DO} {{add|connect|link|join|set up}} {{a|another|one more|a second|two}} {{node|nodes|mainstay node|remote node|mainstay instance|region}}", "{node|nodes|remote node|second node|certificates for nodes}{| config| example| setup}", "node init", "~spread mainstay over {two|several} machines"],
        [f"{怎么}{{添加|连接|加入|配置|接入}}{{一个|另一个|远程|新的|}}{{节点|远程机房|机房}}", "{远程|第二个|多个|另一个}节点{怎么配|配置|}", "{节点|多节点}{配置|证书}", "~{两|几}台机器{一起|组成集群}怎么弄"],
    ),
    "add_key": (
        [f"{DO} {{add|set|enter|use|configure|provide|put in|store}} {{a|my|the|another|a new}} {{key|deepseek key|provider key|qwen key|moonshot key|openai key|provider api key|dashscope key|secret key}}{{| of a provider| for deepseek| from my provider| in mainstay}}", f"{DO} {{connect|add|use|set up|configure|start with}} {{a provider|another provider|deepseek|qwen|kimi|openai|a new provider|dashscope|moonshot|anthropic|a real model}}", "{add|new|another|connect} {provider|a provider|deepseek|qwen|vendor}", "{provider|deepseek|qwen|my} key{| where| how| setup}", "{where|how} {do I put|to put|do I set|is} {my|the|a} {provider key|deepseek key|key of the provider|environment variable}", "{start|run|launch} {mainstay|it}{| with a key| with deepseek}", "{get|how do I get|I want} {real|better|proper|smarter} {answers|models}", "{DASHSCOPE_API_KEY|MOONSHOT_API_KEY|OPENAI_API_KEY|env variable|environment variables}", "~my deepseek account is ready, what next", "~sign up {deepseek|qwen} here"],
        [f"{怎么}{{添加|设置|配置|填写|放入|用}}{{服务商|供应商|DeepSeek|通义|Kimi|提供商|新的服务商|我的}}{{的|}}{{密钥|key|API key|}}", "{添加|新增|加|接入|连接}{一个|新的|}{服务商|供应商|提供商|DeepSeek|通义|Kimi}", "{服务商|DeepSeek|通义|我的}{密钥|key}{怎么填|在哪设置|放哪里|怎么加}", f"{怎么}{{启动|运行|开始用}}{{ Mainstay|}}", f"{怎么}{{得到|用上|换成}}{{大模型|真正的回答|更好的模型}}", "{环境变量|密钥变量}{是什么|叫什么|怎么设}", "~刚{买了|申请到} DeepSeek 的 key,下一步呢", "~开通{通义|服务商}要{填|写}什么"],
    ),
    "add_model": (
        [f"{DO} {{add|set up|configure|define|offer|name|serve|have}} {{a|another|a second|one more|a new}} model{{| in the config| name| in toml| to mainstay}}", "{model|[[model]]} {config|configuration|example|syntax|in toml|block}", "{new|another|add} model{| how| please}", "what {goes|belongs|do I put} {in|into} {a |}[[model]]", "~I'd like an additional model name", "~offer {chat2|my model} to clients"],
        [f"{怎么}{{添加|增加|新增|加|定义|提供}}{{一个|新的|第二个|另一个|}}模型{{|名称|吗}}", "{模型|[[model]]} {配置|例子|示例|写法|怎么写}", "{再|多}加{一个|几个}模型", "{加|新|添加}模型", "~想{多一个|再要个}模型名", "~[[model]] {里|段}写什么"],
    ),
    "add_substitute": (
        [f"{DO} {{add|set|have|use|configure|name|pick}} {{a|another|one more|some|the}} {{substitute|substitutes|fallback|fallbacks|backup|backup model|fallback model|replacement|second choice}}{{| for a model| in toml| model}}", "{substitutes|fallback|fallbacks|backup model} {config|example|setup|in toml|line}", "{what|which model} {answers|can answer} {when|if} {my|the} model is {down|gone}{|, how do I set it}", "~give my model {an understudy|a stand-in}", "~where is the plan b of a model written"],
        [f"{怎么}{{添加|设置|配置|加|指定|用}}{{一个|}}{{替代|替代模型|备用|备用模型|后备|备份模型}}", "{替代模型|备用模型|后备模型} {配置|例子|写法|怎么写|怎么设}", "{加|设|要}{替代|备用}模型", "~给模型找个{后备|替补}", "~模型的备胎写哪"],
    ),
    "order": (
        [f"{DO} {{change|set|choose|control|reverse|pick|decide}} {{the |}}{{order|priority|preference|sequence|ranking}} {{of {{sites|providers|upstreams}}|in which sites are asked|of the providers|between sites}}", f"{DO} {{prefer|prioritize|favour|favor}} {{a site|one provider|one site|a provider|deepseek|my own site|another provider}}", "{order|priority|preference} of {sites|providers}", "{which|what} {site|provider} {is|comes|gets asked} first", "make {deepseek|qwen|my site|a site} {first|the first|the last|second}", "{who|which one} is asked first", "change {the |}{order|priority}", "~my own servers shall be tried before the vendor", "~put {qwen|one vendor} ahead of the others"],
        [f"{怎么}{{修改|改变|设置|调整|换}}{{站点|服务商|供应商|上游|}}的{{顺序|优先级|次序}}", "{先|首先}{问|用|请求}{哪个|哪家}{站点|服务商|}", f"{怎么}{{优先|先}}{{使用|用}}{{一个站点|自己的站点|DeepSeek|某个服务商|通义}}", "{顺序|优先级}{怎么改|怎么设|在哪里设置|是什么}", "~让{自己的机器|某家}排在前面", "~谁{先上|打头阵}怎么定"],
    ),
    "reload": (
        [f"{DO} {{reload|apply|change|update|edit|activate}} {{the |my |a |}}{{config|configuration|config file|mainstay.toml|settings}}{{| without a restart| while it runs| at run time|}}", "{reload|SIGHUP|hot reload|config reload}", "{do|must|should} I {have to |need to |}restart {after a change|mainstay|after changing the file|for a new config}", "{does|will} {mainstay|it} {notice|pick up|see} {changes|a changed file|the new config}", "{I changed|I edited} {the config|mainstay.toml}{|, what now| and now}", "~bring an edited file into force", "~swap the settings while people use it"],
        [f"{怎么}{{重新加载|重载|应用|更新|修改}}{{配置|配置文件|mainstay.toml|设置}}", "{重载|热加载|重新加载配置|SIGHUP}", "{改了|修改了}{配置|文件}{以后|后|}{要重启吗|怎么办|怎么生效}", "{需要|要|必须}重启吗", "~{不停机|运行中}换配置", "~怎么让新设置起作用"],
    ),
    "add_api_key": (
        [f"{DO} {{create|make|issue|generate|hand out|get|add}} {{a|an|a new|another|one more}} {{api key|client key|access key|mainstay key|user key|key for my team|key for a colleague|key for a customer}}", "{api key|client key|access key|new key|mainstay key}{| for a client| for a user| create| how}", "keys create", f"{DO} {{let|allow}} {{a client|a user|others|my team|an app|customers}} {{in|call mainstay|use mainstay|call the api}}", "~onboard a {customer|tenant} with a key", "~hand my colleague credentials"],
        [f"{怎么}{{创建|生成|新建|发|申请|制作}}{{一个|新的|}}{{API key|API 密钥|访问密钥|客户端密钥|用户密钥}}", "{API 密钥|API key|访问密钥|客户端密钥}{怎么创建|怎么生成|创建|在哪创建}", f"{怎么}{{让|允许}}{{客户|用户|同事|应用|别人}}{{访问|调用|使用}}", "~给{新客户|租户}开通{访问|权限}", "~要一个{新|}凭证"],
    ),
    "list_keys": (
        ["{where are|list|show|see|view} {the|all|my|our|existing} {api keys|client keys|keys of clients|mainstay keys}", "{which|what|how many} {keys|api keys|clients} {do I have|have I made|exist|are set up}", "who {may|can|is allowed to} {call|use} {mainstay|the api|it}", "~overview of issued keys", "~who holds a key"],
        ["{查看|列出|显示|看}{所有|全部|现有|}{API 密钥|客户端密钥|密钥|API key}", "{有|发了|创建了}{哪些|几个}{密钥|API key|API 密钥}", "谁{可以|能}{调用|访问}", "~发过{哪些|多少} key", "~{现有|全部}密钥在哪看"],
    ),
    "revoke_key": (
        [f"{DO} {{revoke|delete|remove|disable|invalidate|block|cancel|rotate|withdraw}} {{a|an|the|my|this|one}} {{key|api key|client key|mainstay key|key of a client}}", "{revoke|delete|remove|disable|invalidate|rotate} {key|keys|a key|api keys|client keys}", "{a|the|my|one} key {was|is|got} {leaked|stolen|compromised|published}", "~lock out a {client|former user}", "~someone put our key on the internet"],
        [f"{怎么}{{撤销|删除|吊销|禁用|作废|取消|更换}}{{一个|}}{{密钥|API key|API 密钥|客户端密钥}}", "{密钥|key|API key} {泄露|被盗|泄漏|公开}了{|怎么办}", "{撤销|作废|停用|更换}{密钥|API key}", "~不让某个{客户|用户}再{用|调用}", "~收回{钥匙|访问权}"],
    ),
    "list_models": (
        [f"{DO} {{list|get|fetch|query|read|find}} {{the |all |available |}}{{models|model list|model names}} {{by api|over the api|with curl|with http|from the api|programmatically}}", "{models|list} {endpoint|api|request|route}", "GET models", "curl {the |}models", "~http call for model names"],
        [f"{怎么}{{用接口|通过 API|用 curl|用程序}}{{列出|查询|获取|查看}}{{模型|模型列表}}", "{模型列表|模型}{接口|API|端点|请求}", "~程序{里|中}{怎么|如何}拿到模型名"],
    ),
    "add_tier": (
        [f"{DO} {{add|set up|define|configure|create|change}} {{a|another|a new|the|one more}} {{tier|service tier|service class|priority class|floor|class}}{{| in toml| for users| for clients}}", "{tier|[[tier]]|floor} {config|example|in toml|syntax|block}", "{guarantee|reserve} capacity{| for a tier| for customers| for a class}", "what is {floor|a floor|the floor}{| of a tier| in a tier}", "~promise {paying customers|a class} a share", "~my premium users need their own class"],
        [f"{怎么}{{添加|设置|配置|定义|新建}}{{一个|新的|}}{{等级|服务等级|级别|tier}}", "{等级|[[tier]]|floor} {配置|例子|写法|怎么写|是什么}", f"{怎么}{{保证|预留}}{{容量|份额}}", "~给{付费|重要}用户留份额", "~新开一档服务"],
    ),
    "own_weights": (
        [f"{DO} {{use|run|load|serve|try|host}} {{my|own|my own|a local|other|our own|a}} {{weights|gguf|gguf model|model file|safetensors|local model|model on disk|model from hugging face|checkpoint|model without a provider}}{{| in mainstay| locally| offline| on this machine}}", "{gguf|safetensors|own weights|local weights|local model|offline model|qwen3-0.6b}{| config| example| setup| how}", "{replace|swap|change} {you|the built-in model|the builtin model} {with|for|by} {a bigger one|my own|another model|something better}", "~I downloaded a model, where does it go", "~run something bigger than you on this box"],
        [f"{怎么}{{用|使用|加载|运行|部署}}{{自己的|我的|本地的|其他|}}{{权重|模型文件|GGUF|safetensors|本地模型|离线模型}}", "{GGUF|safetensors|本地模型|自己的权重}{配置|怎么配|支持吗|怎么用}", f"{怎么}{{换|替换}}{{掉|}}{{内置模型|你|小模型}}", "~下载了{一个|}模型,放在哪", "~本机跑个更大的"],
    ),
    "base_url": (
        [f"{DO} {{add|use|connect|configure}} {{a|another|any|some other}} {{openai-compatible|openai compatible|compatible|custom|self-made|unlisted}} {{api|server|provider|endpoint|service}}", "{custom|other|own|openai-compatible|compatible} {base_url|base url|provider|endpoint}{| config| example}", "{what if|how about when} my provider is not {supported|listed|known|on the list}", "~a vendor that you have never heard of", "~speak to some other openai style endpoint"],
        [f"{怎么}{{接入|添加|用|连接}}{{其他|别的|自定义|任意}}{{兼容|OpenAI 兼容|}}{{的|}}{{接口|服务|服务商|API}}", "{自定义|其他|兼容}{地址|base_url|接口|服务商}{怎么配|配置|}", "{服务商|供应商}不{支持|在里面}怎么办", "~{冷门|没听过}的厂商怎么{接|加}", "~列表外的 OpenAI 格式接口"],
    ),
    "start_config": (
        [f"{DO} {{start|run|launch|serve}} {{mainstay |it |the gateway |}}{{from|with|using}} {{a|the|my}} {{file|config|config file|toml|configuration file|mainstay.toml}}", "{command|option|flag} {for|to use} {the|a|my} {config|config file|configuration}", "{mainstay serve|serve|--config|serve --config}", "~my toml is written, how do I launch", "~begin with a file"],
        [f"{怎么}{{用|从|按|指定}}{{配置|配置文件|文件|mainstay.toml}}{{启动|运行|开始}}", "{mainstay serve|--config|启动命令}{|是什么}", "{指定|使用}配置文件", "~toml 写好了,{怎么|如何}跑起来", "~带文件{开|启}"],
    ),
    "capacity": (
        [f"{DO} {{set|change|limit|raise|tell mainstay}} {{the |a |}}{{capacity|concurrency|parallel requests|number of parallel requests|account limit}}{{| of a site| of a provider| per site|}}", "{capacity|concurrency}{| of a site| setting| limit| key| in toml}", "how many {requests|parallel requests} {may|can|does} a {site|provider} {take|get|have}", "~my account allows 200 at once, where do I say so", "~cap what a site gets in parallel"],
        [f"{怎么}{{设置|修改|限制|提高}}{{站点|服务商|账户|}}{{的|}}{{容量|并发|并发数|并行请求数}}", "{容量|并发|capacity} {怎么设|设置|限制|是什么}", "~账户允许 200 个并发,写在哪", "~控制一个站点同时接多少"],
    ),
    "listen": (
        [f"{DO} {{change|set|pick|configure}} {{the |a |}}{{port|listen address|address it listens on|listener|bind address|api port}}", f"{DO} {{reach|open|expose|use}} {{mainstay|the api|it}} {{from outside|from another machine|on the network|on my lan|from other hosts}}", "{port|ports|listen|bind|listener|allow_anonymous}{| setting| address| config| in use}", "{port|address} {8080 |}{is taken|already in use|conflict}", "~colleagues on the lan cannot reach it", "~8080 is occupied here"],
        [f"{怎么}{{修改|设置|改|换}}{{端口|监听地址|端口号|监听端口|绑定地址}}", f"{怎么}{{让|从}}{{外面|别的机器|局域网|其他主机}}{{访问|连接}}{{|进来}}", "{端口|监听|端口号}{被占用了|冲突|设置|是多少}", "~8080 被{别人|别的程序}占了", "~同事{连|访问}不上怎么办"],
    ),
    "tier": (
        ["{what is|explain|define|what are} {tiers|a tier|service classes|enterprise and free|the tiers|service tiers}", "{what|which} {tiers|classes} {do you have|exist|are known|come built in}", "{difference|differences} between {tiers|enterprise and pro|free and batch|pro and free}", "who {is dropped|loses|waits|is served} first", "tier{| meaning| mean}", "~why is a free user turned away before others", "~ranking of customers"],
        ["{等级|服务等级|tier}{是什么|有哪些|有什么区别|怎么分|}", "{解释|介绍}{一下|}{等级|tier}", "{谁|哪些请求}{先|最先}{被拒绝|被丢弃}", "~enterprise 和 free {差在哪|的差别}", "~用户{分几等|怎么排位}"],
    ),
    "substitute": (
        ["{what is|explain|define|what are} {a substitute|substitutes|fallback models|a fallback model|a substitute model|a replacement model}", "{how do|when do} {substitutes|fallbacks} {work|come in|answer|help}", "substitute{| meaning| mean|s}", "{may|can|will} another model answer{| in its place| instead}", "~why did I get another model than I asked for", "~the role of a stand-in"],
        ["{替代模型|替代|备用模型|substitute}{是什么|怎么工作|有什么用|是啥}", "{解释|介绍}{一下|}{替代模型|替代}", "{会|能}{用|由}{别的|其他}模型{回答|代替}吗", "~为什么换了{别的|另一个}模型回答", "~替补是{怎么|如何}上场的"],
    ),
    "failover": (
        ["{what is|explain|define|how does} {failover|fail-over|automatic failover|your failover}{| work| mean}", "what {happens|do you do|does mainstay do} {when|if} {a|the|one|my} {site|provider|upstream} {is down|fails|crashes|breaks|stops|goes away}", "{is|does} {failover|switching|it} {automatic|switch by itself|switch automatically}", "{does|will} {mainstay|it} {switch|move|fail over}{| to another site| to another provider| by itself}", "failover{| meaning| please}", "~one vendor vanishes, and then", "~how are outages survived"],
        ["{故障转移|failover|故障切换}{是什么|怎么工作|是自动的吗|是啥|}", "{站点|服务商|供应商}{挂了|坏了|中断|失败}{以后|会|}{怎么办|怎么样|发生什么}", "{会|能}{自动|}{切换|转移}{到别的站点|}吗", "{解释|介绍}{一下|}故障转移", "~一家{倒了|没了}之后呢", "~怎么{扛过|应对}中断"],
    ),
    "site": (
        ["{what is|what's|explain|define|describe} {a site|a site in mainstay|sites|the word site}", "what {does site mean|do you mean by site|do you call a site}", "{site|sites} {meaning|definition|explained}", "~is a provider account a site", "~the term site"],
        ["{站点|site}{是什么|是啥|什么意思|的意思|的定义}", "{解释|说明}{一下|}{站点|什么叫站点}", "什么{叫|算}站点", "~一个账户算站点吗", "~站点这个词"],
    ),
    "served_by": (
        ["{what is|explain|define|what does} {served_by|served by|the served_by key|the served_by line}{| mean| do}", "served_by{| meaning| list| key| mean| example}", "~the use of served_by", "~why does a model have served_by"],
        ["{served_by|served by} {|是什么|什么意思|怎么写|的意思|是干什么的}", "{解释|说明} served_by", "~served_by 里{列|放}什么", "~为什么要写 served_by"],
    ),
    "resume": (
        ["what happens {to|with} {a|my|the|running} {answer|answers|stream|request} {when|if} {a site fails|a provider dies|a site breaks|it breaks|the upstream fails|the stream is cut}", "{does|will|is} {my|a|the} {answer|stream} {continue|go on|finished|resume|survive}{| when a site dies| after a failure| elsewhere}", "{resume|continuation|mid-stream failure|broken stream|cut off answer}{| meaning| how| explained}", "{are|will} tokens {lost|be lost|repeated|doubled}{| when a site fails}", "~my stream was in full flow as the site died", "~half an answer, then silence"],
        ["{回答|流|流式回答|请求}{进行到一半|中途|一半时|中间}{站点|服务商|}{断了|挂了|坏了|中断}{会怎样|怎么办|呢}", "{流|回答}{会|能}{继续|接着|恢复|完成}吗", "{断流|续传|中途中断|流中断}{|怎么处理|会怎样}", "{token|内容}{会|}{丢|重复|丢失}吗", "~写到一半站点{没了|倒了}", "~答了半截就没声了"],
    ),
    "fate": (
        ["{what is|explain|define|what does} {fate|the fate key|fate in a site|shared fate}{| mean| do}", "fate{| key| meaning| mean| example| in toml}", "{shared|common} {fate|failure|payment card}", "~two accounts with one credit card", "~what dies together, how do I write it"],
        ["{fate|共同命运|共享故障}{是什么|什么意思|怎么写|有什么用|}", "{解释|说明} fate", "~两个账户{用|是}一张卡怎么写", "~一起{坏|失效}的怎么标"],
    ),
    "degraded": (
        ["{what is|explain|what does|why do I get} {x-mainstay-degraded|the header x-mainstay-degraded|degraded: embedded|degraded mode|the degraded header}{| mean}", "{x-mainstay-degraded|degraded}{| header| embedded| meaning| mean}", "~what does degraded tell me", "~a header speaks of degraded"],
        ["{x-mainstay-degraded|degraded|降级}{是什么|什么意思|是啥|}", "{解释|为什么有|为什么出现} {x-mainstay-degraded|degraded|降级}", "~响应头里的 degraded 说明什么", "~什么时候算降级"],
    ),
    "who_answered": (
        ["{how do I|how can I|can I} {know|see|tell|check|find out} {who|which site|which model|which provider|what} {answered|replied|was used|served me|handled my request}", "{which|what} {site|provider|model} {answered|served|handled|was used for} {this|me|my request|my last request|it}", "{trace|explain|track|debug} {a|my|one} request", "mainstay explain", "{x-mainstay-site|x-mainstay-attempts|response headers}", "~where did that answer come from", "~follow one request's path"],
        [f"{怎么}{{知道|看到|查|确认}}{{是|}}{{谁|哪个站点|哪个模型|哪家}}{{回答|处理|响应}}{{的|了|}}", "{这个|我的|刚才的}{回答|请求}{是谁|是哪个站点|由谁}{给的|处理的|回答的}", "{追踪|跟踪|解释}{一个|}请求", "mainstay explain", "~那条回答{出自|来自}哪", "~一个请求走了哪条路"],
    ),
    "check": (
        [f"{DO} {{check|audit|verify|test|examine}} {{my |the |our |}}{{redundancy|config for weak spots|setup|resilience|configuration|single points of failure}}", "{mainstay check|check|redundancy check|audit|redundancy audit}{| command| what is it| how}", "{single point of failure|single points of failure|weak spots}{| in my setup}", "would I survive {the loss of a site|an outage|losing a provider}", "~find the weak spots in my plan", "~am I really safe against one loss"],
        [f"{怎么}{{检查|审计|验证|测试}}{{我的|}}{{冗余|配置|弱点|可靠性|单点故障}}", "{mainstay check|冗余检查|单点故障|检查命令}{|是什么|怎么用|有什么用}", "{失去|丢掉|少了}一个站点{能|还能}{撑住|用}吗", "~找{出|到}薄弱环节", "~丢一个还{扛得住|安全}吗"],
    ),
    "simulate": (
        [f"{DO} {{simulate|rehearse|play|model|predict}} {{an outage|outages|a failure|the loss of a site|a scenario|what would happen}}{{| in virtual time| safely}}", "{mainstay simulate|simulate|simulation|simulator|scenario S01}{| command| what is it| how}", "what would happen if {a site|a provider|deepseek} {failed|went down|was lost}", "~play through a bad day on paper", "~virtual time, virtual outage"],
        [f"{怎么}{{模拟|仿真|推演|预测}}{{故障|中断|一次故障|失去站点}}", "{mainstay simulate|模拟|仿真|模拟器}{|是什么|怎么用|命令}", "如果{站点|服务商}{挂了|中断}会{发生什么|怎样}{,能模拟吗|}", "~纸上推演{一次|}停机", "~虚拟时间里试试"],
    ),
    "drill": (
        [f"{DO} {{run|do|start|hold|make}} {{a |an |}}{{drill|failure drill|chaos test|live test|fire drill|fault injection}}{{| on a site| at a site| in production}}", f"{DO} {{break|fail|kill}} a site {{on purpose|deliberately|for real|for a test}}", "{mainstay drill|drill|chaos|fault injection|chaos engineering}{| command| what is it| how}", "~sabotage a site for practice", "~real breakage, small blast"],
        [f"{怎么}{{做|进行|开始|跑}}{{一次|}}{{演习|真实演练|故障注入|混沌测试}}", f"{怎么}{{故意|真的}}{{弄坏|中断|断开}}{{一个|}}站点", "{mainstay drill|演习|故障注入|混沌测试}{|是什么|怎么用|命令}", "~练习用的{破坏|断线}", "~在线上{小范围|}搞坏一个"],
    ),
    "drain": (
        [f"{DO} {{drain|undrain|stop using|pause|disable|take out|take offline|remove|shut down|put back|put into maintenance|stop traffic to|empty}} {{a site|one site|the site|a provider|deepseek|one provider|an upstream|a data center}}{{| for maintenance| for an hour| for now|}}", "{drain|undrain|mainstay drain|draining|maintenance|maintenance mode}{| command| a site| what is it| how|s}", "{a site|deepseek|one site|the data center} {needs maintenance|should get no traffic|must rest|should not be used}", "{mainstay orders|orders in force|mainstay undrain}", "~send nobody to {one site|that data center} for a while", "~bring a rested site back"],
        [f"{怎么}{{下线|停用|排空|暂停|禁用|维护|恢复|重新启用}}{{一个|某个|这个|}}{{站点|服务商|机房}}", "{drain|undrain|排空|下线|维护模式|停用}{站点|}{|是什么|怎么用|命令|怎么做}", "{站点|机房|服务商}{要维护|需要维护|不想用了|要停用}{怎么办|}", "{mainstay orders|mainstay undrain|有哪些命令在生效}", "~让某个机房歇{一会|一下}", "~先别往那边送请求"],
    ),
    "demo": (
        ["{mainstay demo|demo|a demo|the demo}{| command| please| how| mode}", f"{DO} {{see|start|run|try|get|watch}} {{a demo|the demo|a demonstration|it in action|a small fleet|mainstay in action}}", "{is there|do you have} a {demo|demonstration|playground|sandbox|tutorial}", "{try|test} mainstay{| out| locally| quickly}", "~let me play with it on my laptop", "~a toy fleet to kill things in"],
        ["{mainstay demo|演示|demo|示范}{|怎么用|命令|怎么跑|在哪}", f"{怎么}{{看|运行|启动|试}}{{一个|}}{{演示|demo|示例集群}}", "有{演示|demo|示例}吗", f"{怎么}{{试用|试试|体验}} Mainstay", "~想在笔记本上{玩玩|体验一把}", "~给我看看{实际|真实}效果"],
    ),
    "top": (
        ["{mainstay top|top|live view|live dashboard|dashboard|terminal view|monitor}{| command| please| how}", f"{DO} {{watch|see|monitor|follow|observe}} {{it|traffic|requests|the gateway|mainstay|what happens|sites}} {{live|in real time|in the terminal|right now as it runs}}", "~eyes on the traffic as it flows", "~htop for mainstay"],
        ["{mainstay top|实时监控|实时界面|仪表盘|终端界面}{|是什么|怎么看|命令}", f"{怎么}{{实时|在终端}}{{查看|监控|观察|看}}{{流量|请求|情况|状态|}}", "~盯着流量看", "~像 top 那样的"],
    ),
    "usage": (
        [f"{DO} {{see|get|find|count|measure|check}} {{the |my |our |}}{{usage|token usage|token count|consumption|number of requests|cost|costs}}{{| per key| of a client| so far|}}", "{usage|token usage|consumption|statistics|stats|token count|costs}{| per key| please| numbers}", "how {many tokens|many requests|much} {did I use|have we used|were used|did we spend|went through}", "~tot up what we spent", "~who burned the tokens"],
        [f"{怎么}{{查看|看|统计|知道}}{{我的|}}{{用量|token 用量|消耗|费用|请求数}}", "{用量|token 数|统计|费用|消耗}{|是多少|在哪看|怎么看|统计}", "{用了|花了|消耗了}{多少}{ token|token|请求|}", "~花销{算|核对}一下", "~token 都被谁{吃|烧}了"],
    ),
    "status_page": (
        ["{status page|public page|public status|status website|status site|status url}{| where| address| link| please}", "{where|how} {is|do I find|can I open|do I see} {the |a |your |}{status page|public status page|page for users|status website}", "{is there|do you have} a {status page|public page|page for customers|web page with the status}", "{show|give} {me |}the {status page|link to the status page}", "~what do I show my customers in an outage", "~a web page about your health"],
        ["{状态页|公开状态页|状态网页|状态页面}{|在哪里|在哪|地址|链接|怎么打开|是什么}", "{有|}{公开的|给用户看的|}{状态页|状态网页}吗", "{打开|看|找}状态页", "~给客户看的{页面|网页}", "~哪个网页{公布|显示}状态"],
    ),
    "metrics": (
        [f"{DO} {{get|scrape|read|find|export|graph|collect|see}} {{the |}}{{metrics|prometheus metrics|prometheus data|numbers for grafana|monitoring data}}", "{metrics|prometheus|grafana|monitoring|admin|admin page|admin port|admin listener}{| url| endpoint| address| where|}", "{where|what} {is|are} the {metrics|admin page|admin listener|admin address|prometheus endpoint|metrics endpoint}", "~grafana needs a source", "~scrape target please"],
        ["{指标|监控|prometheus|grafana|admin|管理}{地址|端口|接口|页面|在哪里|在哪|怎么看|}", f"{怎么}{{查看|采集|抓取|导出|获取|接入}}{{指标|监控数据|prometheus|grafana}}", "~grafana 要{连|接}哪里", "~抓取目标是什么"],
    ),
}
