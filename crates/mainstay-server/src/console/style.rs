//! How the console looks, and the one script of its pages, which they work without. Nothing of it
//! is fetched from anywhere.

/// Its style sheet. The second of two colours is for dark screens; each is read well on its ground
/// (WCAG AA).
pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b1f24;--soft:#57606a;\
--line:#d9dde3;--good:#1a7f37;--note:#0b5cad;--warn:#8a5a00;--bad:#c0262d;--none:#57606a}\
@media(prefers-color-scheme:dark){:root{--bg:#0f1317;--card:#171c22;--ink:#e8ebee;--soft:#a3acb6;\
--line:#2c333b;--good:#56d364;--note:#79b8ff;--warn:#e3b341;--bad:#ff7b72;--none:#a3acb6}}\
*{box-sizing:border-box}\
body{margin:0 auto;max-width:72rem;padding:1rem;background:var(--bg);color:var(--ink);\
font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif}\
a{color:var(--note)}\
a:focus-visible,button:focus-visible,input:focus-visible,select:focus-visible,\
summary:focus-visible,.wide:focus-visible{outline:3px solid var(--note);outline-offset:2px}\
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:.5rem;background:var(--card)}\
.top{font-size:1.25rem;font-weight:700;margin:0}.top a{color:var(--ink);text-decoration:none}\
h1{font-size:1.35rem;margin:.75rem 0;overflow-wrap:anywhere}\
h2{font-size:1.1rem;margin:1.75rem 0 .5rem}h3{font-size:1rem;margin:0 0 .5rem}\
.soft{color:var(--soft);font-size:.9rem}\
.bar{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:center}.bar p{margin:0}\
.card,form.card,details{background:var(--card);border:1px solid var(--line);border-radius:.6rem;\
padding:.75rem 1rem;margin:0 0 1rem;overflow-wrap:anywhere}\
summary{cursor:pointer;font-weight:600}\
.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(18rem,100%),1fr))}\
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:.6rem;\
margin:0 0 1rem}\
table{border-collapse:collapse;width:100%}\
caption{text-align:left;padding:.5rem .75rem;color:var(--soft);font-size:.9rem}\
th,td{text-align:left;padding:.35rem .75rem;border-top:1px solid var(--line);vertical-align:top}\
th[scope=row]{font-weight:600;overflow-wrap:anywhere;min-width:7rem}\
thead th{color:var(--soft);font-size:.85rem;font-weight:600;white-space:nowrap}\
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
.good,.warn,.bad,.none{font-weight:600;white-space:nowrap}\
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}.none{color:var(--none)}\
label{display:block;margin:.5rem 0 .15rem;font-weight:600;font-size:.9rem}\
label.one{display:flex;gap:.5rem;align-items:baseline;font-weight:400}\
input,select,button{font:inherit;padding:.4rem .6rem;max-width:100%;color:inherit;\
background:var(--bg);border:1px solid var(--soft);border-radius:.3rem}\
input:not([type=checkbox]):not([type=hidden]),select{width:100%;min-height:2.75rem}\
button{margin-top:.75rem;font-weight:600;cursor:pointer;min-height:2.5rem}\
.bar button{margin:0}\
button.grave{background:var(--bad);border-color:var(--bad);color:var(--card)}\
.secret{font:1rem/1.5 ui-monospace,monospace;overflow-wrap:anywhere;user-select:all}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;margin:0 0 .75rem}\
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}\
.flow{width:100%;max-width:44rem;height:auto;display:block;margin:0 auto}\
.flow text{fill:var(--ink);font-size:11px}.flow .rate{fill:var(--soft)}\
.flow path{fill:none;stroke-opacity:.55}\
.f0{stroke:#2f7de1;fill:#2f7de1}.f1{stroke:#1a9c6b;fill:#1a9c6b}.f2{stroke:#b7791f;fill:#b7791f}\
.f3{stroke:#8a63d2;fill:#8a63d2}.f4{stroke:#d1495b;fill:#d1495b}.f5{stroke:#4a7c8c;fill:#4a7c8c}\
@media(max-width:30rem){body{padding:.75rem}th,td{padding:.3rem .45rem;font-size:.85rem;\
overflow-wrap:anywhere}th[scope=row]{min-width:4.5rem}\
dl{grid-template-columns:1fr}dt{margin-top:.25rem}}\
@media print{.wide{overflow:visible}}";

/// Keeps the part `live` up to date while nobody is in it, and can be told to pause. What the
/// server sends is markup of its own making, and no script in it would run.
pub(super) const SCRIPT: &str = "\
(()=>{'use strict';\
const live=document.getElementById('live'),fresh=document.getElementById('fresh');\
if(!live||!fresh||!window.EventSource)return;\
let paused=false;\
const say=text=>{if(fresh.textContent!==text)fresh.textContent=text};\
const button=document.createElement('button');\
button.type='button';button.textContent='Pause';\
button.addEventListener('click',()=>{paused=!paused;\
button.textContent=paused?'Go on':'Pause';say(paused?'Paused.':'Live.')});\
fresh.after(button);\
const source=new EventSource('/-/console/events');\
source.onmessage=event=>{if(paused)return;\
if(live.contains(document.activeElement)){say('Waits while you are in it.');return}\
live.innerHTML=JSON.parse(event.data);say('Live.')};\
source.addEventListener('over',()=>{source.close();button.remove();\
say('The session is over. Reload to log in.')});\
source.onerror=()=>{if(source.readyState===2){button.remove();\
say('Not live. Reload to see what is new.')}else say('Not live; it is tried again.')};\
})();";
