"""More ways to ask, per intent: how people write when something is broken, short and colloquial.

See `questions.py` for the marks. A template is in one of the lists here or in the other files, not in both.
"""

THING = "{provider|site|upstream|backend|api|vendor}"
THINGS = "{providers|sites|upstreams|backends|apis|vendors}"
站 = "{站点|服务商|供应商|上游|节点}"

STATE = {
    "which_down": (
        [
            f"which {{one|ones}} {{is|are}} {{down|broken|failing|offline|dead}}{{| now| currently}}",
            f"{{down|broken|failed|dead|offline}} {THINGS}", f"{THINGS} {{down|that are down|failing}}",
            f"who {{is|of them is}} {{dead|broken|not answering|not responding}}",
            f"what {THINGS} {{do not|don't}} {{work|answer|respond|reply}}{{| now| today}}",
            f"which {THING} {{does not|doesn't}} {{work|answer|respond|reply}}{{| now| today}}",
            "{something|everything} {is broken|broke|failed|stopped}, {what|which one|who} {is it|was it}",
            f"{{did|has}} {{any|a|some}} {THING} {{fail|failed|crash|crashed|die|died|go down}}{{| today}}",
            f"{{currently|now|today}} {{down|failing|broken}} {THINGS}", "{outage|outages|incident|incidents|failures|problems}",
            "{what|which} {services|apis} {have|are having} {problems|issues|an outage|trouble}",
            f"is {{one|any|some}} of {{the|my|your}} {THINGS} {{down|failing|broken|offline|in trouble}}",
            "what {went wrong|is the problem|is the issue|is failing}{| now| today}", "who is not {up|available|working|ok}",
            f"which {THINGS} {{should I|to}} avoid", f"{{can't reach|cannot reach|what is up with}} my {THINGS}",
            "~whose fault is it that nothing works", f"~has {{anybody|anyone}} gone {{dark|away}}",
            f"~list of {THINGS} {{in trouble|with an outage}}",
        ],
        [
            f"{{哪个|哪家|哪些}}{站}{{坏|挂|断|出错|失败|出故障|不可用|连不上|没反应|不工作}}{{了|}}{{|呢}}",
            f"{{什么|哪些|哪个}}{{不能用|用不了|坏掉了|连不上|出问题|出错}}{{了|}}",
            f"{{有|是不是有}}{{哪个|哪些|什么|}}{站}{{坏|挂|断|故障|失败}}了{{吗|}}", f"{{故障|中断|不可用|失败|下线}}的{站}{{|是哪个|有哪些|列表}}",
            "{谁|哪个|哪家}{不行|不能用|没响应|出事}了", "{故障|中断|宕机|掉线}", "{哪里|什么地方}{坏|出错|有问题|出故障}了",
            f"{站}{{宕机|掉线|崩溃|崩}}了{{吗|没有|没}}", f"~{{到底|究竟}}是{{哪个|哪家}}{{崩|倒下}}了", f"~{{哪几个|哪一个}}{站}{{没有响应|无法访问}}",
        ],
    ),
    "all_ok": (
        [
            "{any|are there any|is there any} {problem|problems|issue|issues}{| now| today| at all}",
            "is {all|everything} {green|in working order|functional|operational|stable}",
            f"{{are|do}} all {{of the |my |your |the |}}{THINGS} {{work|up|available|operational|good|respond|answer}}",
            "{no|any} {issues|problems|trouble}{| today|?}", "all {systems|sites|providers} {operational|up|ok|go|green}{|?}",
            "is {it|the api|the gateway|the system} {healthy|stable|fully up|all right}", "{everything|all} still {up|ok|fine|working}",
            "is nothing {down|broken|wrong}", "are things {ok|fine|good|alright|stable}",
            "~are we in good shape", "~nothing to worry about{|, right}", "~is the whole fleet {up|fine}",
        ],
        [
            "{一切|全部|都}{还好|好着|没事|没问题|在运行|正常运行|可用}{吗|吧}", f"{{所有|全部}}{{的|}}{站}{{都|}}{{好|正常|可用|在线|能用}}{{吗|吧|了吗}}",
            "{有没有|有什么|有}{问题|异常}{吗|}", "{是否|是不是}{一切|全部|都}{正常|可用}", "{系统|服务|网关|接口}{都|}{稳定|好用|正常}吗",
            "~{整体|全部}{上|}{还|}{健康|顺利}吗", "~没什么{异常|毛病}吧",
        ],
    ),
    "report": (
        [
            "{status|state|health} of {the|all|all the|my} {sites|providers|backends|upstreams}",
            f"how {{are|is}} {{all|each|every one}} of {{the|my}} {THINGS}",
            f"{{site|provider|system|service|health|fleet}} {{status|state|report|overview|health}}",
            f"{{show|give|send|print|get}} {{me |}}{{the |a |}}{{status|state|health|overview|summary}}{{| of all {THINGS}| please}}",
            f"{{list|show}} {{me |}}{{every|each|all}} {{{THING}|{THINGS}}}{{| with state| and how they are}}",
            "how do things {stand|look}{| now| right now}", "{tell|brief} me {about all sites|on the state|how things are|how everything stands}",
            "what's {happening|going on|the situation|the state of play}", "{full|short|quick} {status|report|overview}",
            f"{{which|what}} {THINGS} {{exist|are set up|are connected|do we have|have we got}}", "{sites|providers|the sites}",
            "~where do we stand", "~run me through the {sites|providers}", "~a word on every {site|provider}",
        ],
        [
            f"{{各|每个|所有|全部}}{站}{{的|}}{{状态|情况|健康状况}}{{|如何|怎么样|是什么}}", "{系统|服务|网关|整体}{状态|状况|情况|概览}",
            f"{{给我|来|看}}{{一份|个|一下|看}}{{状态|报告|概况|总览}}", f"{站}{{列表|清单|一览}}", f"{{现在|目前|当前}}{{各|所有}}{站}{{怎么样|如何}}",
            f"{{你|我们|我}}{{有|连着|配置了}}{{哪些|几家|什么}}{站}", "{总览|总结|状态报告|健康检查}", "~{逐个|挨个}说说{各家|站点}", "~{眼下|此刻}的{总体|整体}{形势|状况}",
        ],
    ),
    "which_up": (
        [
            f"which {{one|ones}} {{is|are}} {{up|working|ok|healthy|fine|usable|good}}{{| now| currently}}",
            f"{{healthy|working|good|available|usable|live}} {THINGS}", f"{THINGS} {{up|that are up|that work}}",
            f"what {THING} {{still |}}{{works|answers|responds|is good}}{{| now| today}}",
            "who {is|of them is} {up|ok|healthy|responding|usable}", f"what can I {{use|still use|rely on}}{{| now| right now}}",
            f"{{anything|anyone|any one}} {{up|working|alive|left|usable}}", f"which {THING} {{would|do}} you {{recommend|use|suggest}}{{| now}}",
            f"{{do|have}} I {{have|got}} {{a|any}} {{working|healthy|usable}} {THING}{{| left}}",
            f"where {{can|do|will}} my requests {{go|be answered}}{{| now}}",
            "~who survived", f"~which {THINGS} {{made it|are in good health}}", "~give me one that works",
        ],
        [
            f"{{哪个|哪家|哪些}}{站}{{是好的|还好|健康|还活着|可以用|在工作|在运行|没坏|有响应}}", f"{{正常|可用|健康|在线|能用}}的{站}{{|是哪个|有哪些|列表}}",
            "{谁|哪个|哪家}{还|}{正常|好用|活着|可用|在线}", f"{{现在|目前|}}{{可以|能|该}}用{{哪个|哪家|谁|什么}}{{|站点|服务商}}",
            f"{{还有|有没有}}{{能用|可用|正常|好}}的{{吗|没有|}}", "~{剩下|活下来}的{有谁|是哪些}", "~给我一个{好用|能用}的",
        ],
    ),
    "why_slow": (
        [
            "{it|this|everything|mainstay|the api|the service} is {slow|so slow|very slow|really slow|crawling|laggy|sluggish}{| today| now|, why}",
            "{slow|laggy|sluggish} {answers|responses|requests|today|again}", "why {so |}{slow|laggy|sluggish}{| today| now| again}",
            f"{{slow|busy|full|overloaded}} {THINGS}", f"which {{one|ones}} {{is|are}} {{slow|busy|full|overloaded|lagging}}{{| now}}",
            "{high|bad|terrible} latency{| today| why|, why}", "{why is|what about} the latency {so |}{high|bad}{| today}",
            "what {slows|is slowing} {it|everything|things|us} down", "{answers|responses|requests|replies} {take|are taking} {too |very |so |}long",
            "why {am I|are we} {waiting|still waiting}{| so long}", "is {it|anything|something} {slow|overloaded|full}{| now| today}",
            f"{{is|are}} {{the |some |any |}}{THINGS} {{overloaded|slow|busy|at capacity|throttled}}",
            "~what is holding {things|it} up", "~it crawls", "~the wait is {endless|terrible}",
        ],
        [
            "{为什么|怎么|为何}{今天|现在|最近|一直|}{这么|那么|很|好|}{慢|卡|迟钝}{|啊|呢|了}", "{慢|卡|延迟}{得很|死了|极了|}", "{延迟|响应时间}{为什么|怎么}{这么|很|}{高|长|大}",
            f"{{哪个|哪些|哪家}}{站}{{最|}}{{慢|过载|满|忙|拥挤}}{{了|}}", f"{{慢|过载|已满|繁忙}}的{站}{{|是哪个|有哪些}}", "{回答|响应|请求}{要|等|花}{这么|那么|很}{久|长时间}",
            f"{站}{{是不是|是否|}}{{慢|满|忙|过载}}{{了|}}{{吗|}}", "~是什么{拖慢|卡住}了", "~等得{太久|不耐烦}了",
        ],
    ),
    "when_back": (
        [
            "when {will|does} {it|everything|this|service} {be |}{fixed|restored|recover|repaired|resolved|normal again|available again}",
            "{recovery|repair|restore} time", f"when {{can we|do you|should we}} expect {{recovery|it back|a fix|things to work|everything back}}",
            "how long {until|till|before} {recovery|it works|it is fixed|service is back|everything works again}",
            "{will|does} {it|this|the outage} {take|last} {long|much longer}", f"when {{are|will}} {{the|all|my}} {THINGS} {{up|be up|be available|work}} again",
            "{estimated|expected} {time|recovery|repair}{| time}", "how long {is|will be} {it|everything|service} {down|out|gone}{| for}",
            "when is {this|it|that} over", "back when", "{back|fixed|up} {soon|yet|again}{| or not}",
            "~is there an end in sight", "~how much longer", f"~when do {{things|we}} get back to normal",
        ],
        [
            "{还要|还需|需要|要}{多久|多长时间|多少时间}{才|}{能|会|}{恢复|修好|好|正常|可用}", "{恢复|修复|好转}{时间|要多久|了吗|了没}",
            "{什么时候|何时|几点|多久}{可以|能|会|才能}{修复|好|正常|用|恢复服务|重新可用}", f"{站}{{们|}}{{什么时候|何时|多久}}{{会|能|}}{{好|修好|恢复正常|重新上线}}",
            "{快|马上|很快}{好|恢复|修好}了吗", "~{还|}要{停|瘫痪}多久", "~何时{才是个头|结束}",
        ],
    ),
    "when_retry": (
        [
            "{retry|try again|try it again|resend} {now|later|or wait|in how long}{|?}", "{should|shall|do} I {wait|retry|try later|try again later}{| or not|?}",
            "how long {to wait|is the wait|to hold off}{| before a retry|}", "when {does|would} {it|a retry} make sense{| to retry| to try again|}",
            "when {will|can} my {request|requests|call|calls} {work|succeed|go through|be answered}", "{how soon|when} can I {send|make} {requests|a request|another request}{| again}",
            "come back {when|later|in how long}", "{what is|what's} the {retry|waiting} time", "{retry after|retry-after|wait time|back off}",
            "can I {send|go on|continue|use it} {now|again|already}", "~at what point is it worth another go", "~give me a time to come back",
        ],
        [
            "{多久|几分钟|几秒|多长时间}{后|之后|以后}{可以|能|再|}{重试|再试|再来|重新请求}", "{重试|再试|再来}{要|得|需要}{等|}{多久|多长时间}", "{该|要不要|需不需要}{等|重试|再试}{一下|}{吗|}",
            "{我|}{什么时候|何时|几时}{再来|可以再请求|能继续|重新发送}", "{等|等待}{多久|时间|多长}", "{现在|}{可以|能}{请求|发请求|继续|用}了{吗|没}", "~{晚点|待会}再来{行吗|合适吗}", "~多少秒后{重发|再发}",
        ],
    ),
    "site_status": (
        [
            "@P {down|up|ok|slow|status|state|health}{|?}", "{did|has} @P {crash|crashed|die|died|go down|gone down|come back|recover}", "is @P {dead|broken|offline|online|overloaded|responding|answering|reachable|usable}{| now| again| yet}",
            "{how|what} {about|does} @P{| do| look}", "{is|are} {anything|something|you} {wrong|having trouble} with @P", "what {happened|is happening|is going on} {to|with|at} @P",
            "{health|state|condition} of @P", "{check|show|tell me about|look at} @P", "{can|could|may|should} I {still |}{use|call|rely on|trust} @P{| now| again}",
            "{how long|when} {until|will} @P {work|works|be fixed|recovers|be ok}{| again}", "@P {is|seems|looks} {down|slow|broken|offline|unreachable|full}{| why|, why|}", "why {did|does} @P {stop|fail|refuse|time out|not respond}",
            "@P {keeps failing|times out|gives errors|refuses|never answers}", "@P", "{any news|anything new} {of|from|about} @P",
            "~how is @P {holding up|feeling}", "~what ails @P", "~give me the {facts|story} on @P",
        ],
        [
            "@P {现在|今天|还|}{好|正常|能用|可用|在线|活着|慢|满}{了|}{吗|不|}", "@P {是不是|是否}{挂|坏|断|崩|满|中断|下线}了{|吗}", "@P {状态|情况|健康}{|如何|怎么样|是什么}", "{查|看}{一下|看} @P",
            "{能|可以|还能}用 @P 吗", "@P {坏|挂|崩|断|失败|超时|出错}了{|怎么办|吗}", "@P {还|}要多久{|恢复|才好|能用}", "{为什么|怎么} @P {超时|报错|没反应|拒绝|停了}", "@P", "~@P {那边|最近}{如何|有消息吗}", "~@P 还{靠谱|行}吗",
        ],
    ),
    "unknown_site": (
        [
            "@X {down|up|ok|slow|status}{|?}", "is @X {down|dead|online|offline|configured|there|connected|set up}{| now| yet}", "{can|could|should} I {use|call} @X{| here| now}",
            "{status|state|health} of @X", "what {happened to|is going on with|is wrong at|about} @X", "do you {have|know|use|see} @X", "why {can't|can not} I use @X", "@X {does not work|is broken|fails|times out}", "{check|show} @X",
            "~is @X among your {sites|providers}", "~anything from @X",
        ],
        [
            "@X {状态|情况}{|如何}", "@X {坏|挂|断|崩}了{|吗}", "@X {能用|在线|可用|配置了}{吗|没有}", "{能|可以}用 @X 吗", "{有|你有|认识} @X 吗", "~{查一下|看看} @X", "~@X 还{好|行}吗",
        ],
    ),
    "model_by": (
        [
            "@M", "@M {status|down|up|available|ok}{|?}", "is @M {reachable|online|offline|broken|served|served now}{| now}", "{who|what|which site|which provider} {is behind|has|offers|provides|gives me|answers for|stands behind} @M", "{where|from where} {is|do I get|comes} @M{| now| from}",
            "{fallback|substitute|replacement|backup} {of|for} @M", "what {answers|happens} {when|if} @M {is down|fails}", "{why is|is} @M {not working|failing|unavailable}", "{tell me about|check|show} @M", "{can|could} @M be used", "~which {machine|company} {gives|makes} the answers of @M", "~do I still get @M",
        ],
        [
            "@M", "@M {状态|能用吗|在线吗|坏了吗|可用吗}", "{谁|哪个站点|哪家|哪个服务商}{在|}{提供|服务|回答|负责|有} @M", "@M {来自|在}{哪|哪里|哪家}", "@M {挂|坏|不能用}了{|怎么办|吗}", "@M 的{备用|后备|替代}{模型|}{|是什么|有吗}", "~@M {归谁|靠谁}", "~还能{用|调用} @M 吗",
        ],
    ),
    "which_models": (
        [
            "{available|possible|supported|known|all} models", "{list|names} of {the |all |}models", "{what|which} {models|model names} {do you|can you} {know|have|offer|support|serve}", "{any|are there} {other|more} models", "{show|give} me {the models|your models|all models|the list of models}", "model {list|names}", "~what is on the menu{|, models I mean}", "~which models can be asked for",
        ],
        [
            "{模型|所有模型|可用模型|模型名}{列表|清单|有哪些|}", "{支持|提供|能用|可以用}{的|}{哪些|什么}模型", "{都|}有{什么|哪些|几个}模型{可用|可以用|}", "~模型{清单|名称}给我", "~能调{用|}什么模型",
        ],
    ),
    "how_many": (
        [
            f"how many {{are|of them are}} {{up|down|working|ok|left|healthy|alive|there}}", f"how many {THINGS} {{do I|do we|can I}} {{have|use}}", f"{{number of|count of}} {{working |healthy |}}{THINGS}", f"how many {THINGS} {{work|answer|remain|still work|respond}}", f"~what is the count of {THINGS}", f"~how many {{still stand|can answer}}",
        ],
        [
            f"{{有|共有|还剩|现在有}}{{几个|多少|多少个|几家}}{{站点|服务商|供应商|可用|正常|能用|在线}}{{的|}}", f"几个{站}{{正常|可用|在线|能用|好}}{{|的}}", "~{还剩|剩下}{几家|多少家}", f"~{站}一共多少",
        ],
    ),
    "waiting": (
        [
            "{queue|queue length|waiting requests|requests waiting|backlog}", "how {many|much} {is|are} {waiting|queued|pending|in line}", "{are|is} {there |}{requests|anybody|anyone|someone|others} {waiting|queued|pending|in line}", "how {long|full|big} is the {queue|line|backlog}{| now}", "am I {queued|in a queue|waiting in line}", "~who else waits", "~is there a crowd before me",
        ],
        [
            "{排队|等待|队列}{情况|长度|人数|}", "{多少|几个}{请求|人}{排队|在排队|等待|在等|等着}", "{有没有|有}{请求|人}{在|}{排队|等待|等}{吗|}", "我{在|要}排队吗", "~队伍{长吗|有多长}", "~有几个在我前面",
        ],
    ),
    "address": (
        [
            "{url|endpoint|base url|api address|api url|api endpoint}", "{what|which} is {the|your} {endpoint|base_url|api endpoint|api address|http address}", "where {is|do I find|can I find} the {api|endpoint|gateway|server}", "{where|how} do I {connect|connect to you|point my client|point my app}", "what {do I put|goes} {in|into|as} {base_url|the base url}{| of my client}", "~which address shall my client call", "~at what url do you listen",
        ],
        [
            "{API|接口|请求|服务}{地址|网址|URL|端点}{|是什么|是多少|在哪|在哪里}", "{往|向|发到}{哪里|哪个地址|什么地址}{发|发送|}{请求|}", "{客户端|我的程序}{填|连|用}{哪个|什么}{地址|网址|URL}", "base_url {填什么|是什么|写什么}", "~请求该{寄|送}到哪", "~服务在哪个{网址|地址}上",
        ],
    ),
}
