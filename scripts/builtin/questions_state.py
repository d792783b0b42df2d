"""Templates of the questions about the state of the sites; see `questions.py` for the marks."""

THING = "{provider|site|upstream|backend|service}"
THINGS = "{providers|sites|upstreams|backends|services}"
DOWN = "{down|broken|dead|offline|not working|unavailable|failing|out|gone}"
站 = "{站点|服务商|供应商|上游|服务|节点}"

STATE = {
    "which_down": (
        [
            f"{{which|what}} {{{THING} is|{THINGS} are}} {DOWN}{{| now| right now| at the "
            f"moment| today}}",
            f"is {{any|some|a}} {THING} {DOWN}{{| now| right now| today}}",
            f"are {{any|some}} {THINGS} {DOWN}", "what is {down|broken|failing|not working}",
            "who is {down|offline|failing}", f"{{list|show|name|tell me}} the {DOWN} {THINGS}",
            "is there {an outage|a problem|an incident|trouble}{| now| right now| somewhere}",
            "what {has failed|failed|broke|went down|stopped working}",
            f"which {THINGS} {{can not|cannot|can't}} {{answer|be used|be reached}}",
            f"do you {{see|know of}} {{an outage|a failure|a {DOWN} {THING}}}",
            f"any {THING} {DOWN}", "any outage{s|} {now|today|right now}",
            "what's {down|broken|wrong}",
            f"~which of the {THINGS} {{has|have}} {{failed|problems|an outage}}",
            f"~tell me {{which one is|which ones are|what is}} {DOWN}",
            "~is {something|anything} {down|broken|out of order}",
        ],
        [
            f"{{哪个|哪些|什么}}{站}{{中断|挂|坏|断|故障|不可用}}了{{|吗}}", f"{{现在|}}有{{哪些|什么}}{站}{{中断|挂了|故障|不能用}}",
            "{什么|哪个|谁}{挂|坏|断|中断}了", f"有{{没有|}}{站}{{中断|挂了|故障|不可用}}{{吗|}}",
            "{出|发生|有}{什么|}故障{了|}{吗|}", f"~{{请问|}}{{目前|当前}}{{哪几个|哪家}}{站}{{不能用|出问题|中断}}了",
        ],
    ),
    "all_ok": (
        [
            "is {everything|all|it all} {up|ok|okay|fine|good|working|alright|healthy|running}{| "
            "now| again}",
            f"are {{all|all the|the}} {THINGS} {{up|ok|fine|working|healthy|running|online}}",
            "is {mainstay|the system|the service|the whole thing} {healthy|ok|fine|up|working}",
            f"does {{everything|every {THING}}} work{{| now| again}}",
            "all {good|ok|fine|green|up|systems go}",
            f"is every {THING} {{up|ok|healthy|alive|fine}}",
            "are we {ok|up|fine|healthy|good}{| now| again}",
            "everything {ok|fine|up|working|good}", "~do all of them work",
            "~is {it all|the lot} {in order|green}", f"~can I rely on all {THINGS}{{| now}}",
        ],
        [
            f"{{一切|全部|都|所有{站}}}{{都|}}{{正常|好|在线|可用}}吗", "{系统|服务|Mainstay}{正常|健康|还好|没事}吗",
            "都{正常|好|没问题}{吧|吗}", f"~是不是{{所有|全部}}{站}都{{没问题|正常|能用}}",
        ],
    ),
    "report": (
        [
            "{status|state|report|health|overview|summary|status report|status please}",
            "{what is|what's|show me|give me|tell me} the {status|state|health}{| of everything| "
            "of the sites| of the providers| now}",
            f"{{list|show|describe}} {{all|the|all the|your}} {THINGS}",
            "how {are things|is everything|are the sites|is it going with the sites|are the "
            "providers}{| doing}",
            "what is {happening|going on|the situation}{| now| with the sites}",
            f"{{which|what}} {THINGS} {{are there|do you have|are configured|do you know}}",
            "give me {an overview|a summary|a report|the full picture}",
            f"how {{are|do}} the {THINGS} {{do|look|feel}}",
            f"~what {{about|of}} {{the|all the}} {THINGS}",
            "~{current|overall} {status|state|health}", f"~how does each {THING} {{do|look}}",
        ],
        [
            "{状态|情况|概况|报告|总体情况}{|如何|怎么样}", f"{{列出|显示|看看}}{{所有|全部|}}{站}{{|的状态|的情况}}",
            f"{站}{{们|}}{{状态|情况}}{{怎么样|如何}}", f"有{{哪些|什么}}{站}", "{现在|目前}{是什么|什么}{情况|状况}",
            "~{介绍|汇报|说}一下{当前|现在}的{状态|情况}",
        ],
    ),
    "which_up": (
        [
            f"{{which|what}} {{{THING} is|{THINGS} are}} "
            f"{{up|working|healthy|ok|fine|alive|available|online|usable}}{{| now| right now}}",
            f"{{who|what|which {THING}}} can {{answer|serve|I use|take requests}}{{| now| right "
            f"now}}",
            "what {works|still works|is still up|is up|is working|is available|is alive}",
            f"{{list|show|name}} the {{healthy|working|good|available|live}} {THINGS}",
            f"is {{any|at least one}} {THING} {{up|working|alive|available|left}}",
            f"{{which|what}} {THINGS} {{can I|should I|do I}} use{{| now}}",
            "~what is left{| to use}",
            f"~{{who|which {THINGS}}} {{is|are}} still {{standing|answering|there}}",
            f"~do {{any|some}} {THINGS} still {{work|answer|run}}",
        ],
        [
            f"{{哪个|哪些|什么}}{站}{{正常|可用|能用|在线|还能用|没问题}}{{|呢}}",
            f"{{现在|}}{{有|还有}}{{哪些|什么|没有}}{{可用|正常|能用}}的{站}", "{谁|哪个}{能回答|还能用|可以用}",
            f"~{{目前|当前}}{{能用|正常}}的{站}{{是哪些|有哪些}}",
        ],
    ),
    "why_slow": (
        [
            "why {is|was} {it|this|everything|mainstay|the answer|my request|the service|the "
            "api} {so |very |}{slow|sluggish|lagging|taking so long}{| today| now}",
            "why {are|were} {the answers|my requests|responses|things} {so "
            "|}{slow|late|delayed}{| today| now}",
            "{what|which|who} is {so |}slow{| now| today}",
            "it is {so |very |too |}slow{|, why| today}",
            "why does it take {so long|forever|so much time}",
            "why do I {have to |}wait {so long|that long}",
            f"{{which|what}} {{{THING} is|{THINGS} are}} {{slow|full|busy|overloaded|lagging}}",
            f"is {{any|some}} {THING} {{slow|full|busy}}",
            "what {makes|is making} it {slow|so slow}", "responses are {slow|late|crawling}",
            "why the {delay|wait|lag|latency}", "~where does the {slowness|delay|lag} come from",
            "~{my answers|my requests|answers} {take ages|crawl|come late}",
            "~why {so|is it that} slow",
        ],
        [
            "{为什么|怎么|为何}{这么|那么|很|}慢{|啊|呢}", "{回答|响应|请求|服务|接口|系统}{为什么|怎么|为何}{这么|很|太|}{慢|卡}{|了}",
            f"{{哪个|哪些}}{站}{{很|比较|}}{{慢|满|忙}}{{了|}}", "{太|好|真}{慢|卡}了", "为什么要等{这么|那么|很}久",
            "~{今天|最近}{速度|响应}{怎么|为什么}{变|这么|}慢了",
        ],
    ),
    "when_back": (
        [
            "when will {it|everything|they|the service|all} be {back|up|up "
            "again|restored|fixed|ok again|working again}",
            f"when {{is|are}} {{it|they|the {THINGS}}} {{back|up again|fixed}}",
            f"when do the {THINGS} {{come back|return|recover}}",
            "how long {will|does} the {outage|downtime|failure|incident} {last|take}",
            "when {is|will} the outage {over|be over|end}",
            "how long until {it is|they are|everything is} {back|fixed|up}",
            "{eta|any eta|eta for recovery|do you have an eta}",
            f"when will the {DOWN} {THINGS} {{be back|return|recover}}",
            "~how soon {will|can} {it|everything} {recover|come back|be repaired}",
            "~when {does|will} {service|everything} return to normal",
            "~what is the {recovery time|time of recovery}",
        ],
        [
            "{什么时候|何时|多久|几时}{能|会|才能|}{恢复|修好|好|恢复正常}{|啊|呢}",
            "{中断|故障|停机}{会|要|还要|}{持续多久|多久|多长时间}", f"{站}{{什么时候|何时|多久}}{{回来|恢复|能用}}",
            "~{预计|大概}{什么时候|多久}{可以|能}{恢复|修复}",
        ],
    ),
    "when_retry": (
        [
            "when {should|can|may|do} I {retry|try again|come back|send it again|try}",
            "how long {should|must|do} I wait{| before I retry| before trying again|?}",
            "{should|can|may} I {retry|try again}{| now}",
            "when {is|would be} a good time to {retry|try again}",
            "when to {retry|try again|come back}", "{retry|try again} when",
            "how many {seconds|minutes} {should|do} I wait",
            "is it worth {retrying|trying again}{| now}",
            "~after what time {should|can} I {retry|send again}",
            "~how soon {may|should} I {retry|come back}",
            "~{do|shall} I {repeat|resend} my request{| now}",
        ],
        [
            "{什么时候|何时|多久后|多久以后}{可以|能|该|}{重试|再试|再来}", "{我|}{要|应该|需要|得}等{多久|多长时间|几分钟}{|再试|才能重试}",
            "{现在|}{可以|能}{重试|再试}{了|}吗", "~{过|隔}{多久|多长时间}{再|才能}{试|请求|发}{|一次}",
        ],
    ),
    "site_status": (
        [
            f"is @P {{up|{DOWN}|ok|fine|working|healthy|alive|slow|full|available|back}}{{| now| "
            f"right now| again}}",
            "how is @P{| doing| now| today}",
            "what {about|is wrong with|is up with|happened to|is the matter with|is the state "
            "of|is the status of} @P",
            "status of @P", "@P status",
            "why {is|was} @P {down|slow|failing|not working|not "
            "answering|unavailable|full|broken}",
            "why does @P {fail|not work|not answer|refuse}", "why {can't|can not} I use @P",
            "when {will|is} @P {be back|be up|return|back|come back|work again|recover}",
            "can I use @P{| now}", "does @P work{| now| again}",
            "@P {does not work|is not working|fails|is slow|does not answer}", "tell me about @P",
            "@P?", "has @P {recovered|failed|come back}", "how long will @P {be down|be out|take}",
            "can @P answer", "~do you hear from @P", "~{what's|whats} with @P",
            "~is there {a problem|trouble|an outage} {at|with} @P",
            "~when can I count on @P again", "~@P seems {dead|odd|broken}",
        ],
        [
            "@P {正常|还好|能用|可用|恢复|挂|中断|好}{了|}吗", "@P {怎么样|怎么了|怎么回事|状态|的状态|情况如何|现在怎么样}{|了}",
            "@P {什么时候|何时|多久}{能|会|}{恢复|好|回来}", "为什么 @P {不能用|很慢|中断了|挂了|不行|失败}",
            "@P {为什么|怎么}{这么慢|不能用|挂了|不回答}", "@P 呢", "~@P {出|有}{什么|}问题{了|}{吗|}", "~{请看看|查一下|说说} @P",
        ],
    ),
    "unknown_site": (
        [
            "is @X {up|down|ok|working|slow|available|broken}{| now| today}",
            "how is @X{| doing| today}", "what about @X", "status of @X",
            "why is @X {down|slow|failing}", "when will @X be back", "can I use @X{| now}",
            "does @X work{| now}", "is @X one of {the|your} {sites|providers}",
            "~what is wrong with @X", "~has @X failed",
        ],
        [
            "@X {正常|能用|挂了|中断了|可用}吗", "@X {怎么样|怎么了|什么时候恢复|状态}", "~@X {现在|}{好|在线}吗",
        ],
    ),
    "model_by": (
        [
            "who {serves|answers|runs|hosts} @M{| now}",
            f"{{which|what}} {{{THING} serves|{THINGS} serve|{THING} answers|{THING} runs}} @M",
            "is @M {up|available|working|ok|down|there|usable}{| now}", "can I use @M{| now}",
            "where does @M {run|come from}", "what {about|is the state of} @M",
            "does @M work{| now}", "why does @M {fail|not work|not answer}", "how is @M",
            "what is the substitute {of|for} @M", "what {replaces|stands in for} @M",
            "status of @M", "~who is behind @M", "~can @M {answer|reply}", "~is @M {alive|broken}",
        ],
        [
            "@M {由谁|由哪个站点|在哪里}{提供|回答|运行}", "@M {能用|可用|正常|挂了}{吗|}", "@M {怎么样|状态}",
            "@M 的替代{模型|}是{什么|哪个}", "~谁{提供|在跑|回答} @M",
        ],
    ),
    "which_models": (
        [
            "{which|what} models {are there|do you have|can I use|are available|are "
            "configured|exist|do you serve}{| now}",
            "{list|show|name} {the|all|all the|your} models",
            "what model{s|} can I {ask|call|choose|use}", "models", "~what models may I pick",
            "~names of the models",
        ],
        [
            "{有|支持|可用}{哪些|什么}模型", "{列出|显示}{所有|}模型", "{能|可以}用{哪些|什么}模型", "~模型{有|是}哪些",
        ],
    ),
    "how_many": (
        [
            f"how many {THINGS} {{are there|do you have|are up|are working|are healthy|exist|are "
            f"configured|are left}}",
            f"{{number|count}} of {THINGS}", f"~how many of the {THINGS} {{work|are fine|answer}}",
        ],
        [
            f"{{有|一共有|还有}}{{几个|多少个|多少}}{{正常的|可用的|}}{站}", f"~{站}{{数量|总数}}{{是多少|}}",
        ],
    ),
    "waiting": (
        [
            "how many {requests|people|users|others} {wait|are waiting|are in the queue|are "
            "queued|are ahead of me}",
            "how {long|big} is the {queue|line}", "is there a {queue|line|backlog}",
            "how {full|busy} is {it|the queue|mainstay}",
            "~what is the {queue length|length of the queue}",
            "~are {many|other} requests waiting",
        ],
        [
            "{有|还有}{多少|几个}{人|请求}在{等|等待|排队}", "{队列|排队}{有|}多{长|少人}", "要排队吗",
            "~前面{有|还有}{多少|几个}{人|请求}",
        ],
    ),
    "address": (
        [
            "what is {the|your|my} {url|address|endpoint|base url|api url}",
            "where {do|should|can} I send {requests|my requests|a request}",
            "{which|what} {url|endpoint|base url|address} {do|should} I use", "where is the api",
            "~how do I {reach|call} {the api|you}", "~what address does {the api|mainstay} have",
        ],
        [
            "{地址|接口地址|网址|URL|端点}是{什么|多少|哪个}", "{请求|接口}{发到|发往|在}{哪里|哪}", "~{调用|访问}{地址|哪个地址}",
        ],
    ),
}
