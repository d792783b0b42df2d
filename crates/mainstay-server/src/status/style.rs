//! How the page looks. No file of it is fetched from anywhere, and nothing of it is a script.

/// Its style sheet. The second of two colours is for dark screens; each is read well on its ground
/// (WCAG AA).
pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b1f24;--soft:#57606a;\
--line:#d9dde3;--ok:#1a7f37;--note:#0b5cad;--warn:#8a5a00;--part:#b54708;--bad:#c0262d;\
--none:#57606a}\
@media(prefers-color-scheme:dark){:root{--bg:#0f1317;--card:#171c22;--ink:#e8ebee;--soft:#a3acb6;\
--line:#2c333b;--ok:#56d364;--note:#79b8ff;--warn:#e3b341;--part:#f0914c;--bad:#ff7b72;\
--none:#a3acb6}}\
*{box-sizing:border-box}\
body{margin:0;background:var(--bg);color:var(--ink);\
font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','PingFang SC',\
'Microsoft YaHei','Noto Sans CJK SC',sans-serif}\
.page{max-width:46rem;margin:0 auto;padding:1.25rem 1rem 3rem}\
header{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:baseline;\
justify-content:space-between;margin:.5rem 0 1.25rem}\
h1{font-size:1.35rem;margin:0;overflow-wrap:anywhere}\
nav{display:flex;gap:.5rem;margin:0 -.25rem}nav a{padding:.5rem .25rem}\
nav a[aria-current]{color:var(--ink);font-weight:600;text-decoration:none}\
a{color:var(--note)}a:focus-visible{outline:3px solid var(--note);outline-offset:2px}\
.all{display:flex;gap:.9rem;align-items:center;background:var(--card);\
border:1px solid var(--line);border-left:.4rem solid var(--c);border-radius:.6rem;\
padding:1.1rem 1.2rem;margin-bottom:1.75rem}\
.all p{margin:0;overflow-wrap:anywhere}\
.all .line{font-size:1.25rem;font-weight:650;line-height:1.3}\
.all svg{width:2rem;height:2rem}\
.soft{color:var(--soft);font-size:.9rem}\
h2{font-size:1rem;margin:1.5rem 0 .5rem;color:var(--soft);font-weight:600}\
ul{list-style:none;margin:0;padding:0;background:var(--card);border:1px solid var(--line);\
border-radius:.6rem}\
li{display:grid;grid-template-columns:1fr auto;gap:.1rem 1rem;align-items:center;\
padding:.7rem 1.1rem;border-top:1px solid var(--line)}\
li:first-child{border-top:0}\
.name{font-weight:600;overflow-wrap:anywhere;min-width:0}\
.state{display:flex;gap:.45rem;align-items:center;color:var(--c);font-weight:600}\
.more{grid-column:1/-1;color:var(--soft);font-size:.85rem}\
svg{flex:none;width:1.15rem;height:1.15rem;color:var(--c);fill:currentColor}\
.top{font-size:1.35rem;font-weight:700;margin:0;overflow-wrap:anywhere}\
.top a{color:var(--ink);text-decoration:none}.ask{margin:-.75rem 0 1.5rem}\
.said{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.7rem 1rem}\
article>h2:first-child,h3{font-size:1.05rem;margin:0;color:inherit}\
ol{list-style:none;margin:.5rem 0 0;padding:0}\
ol li{display:block;padding:.5rem 0;border-top:1px solid var(--line)}ol li p{margin:.15rem 0}\
article{background:var(--card);border:1px solid var(--line);border-left:.4rem solid var(--warn);\
border-radius:.6rem;padding:.9rem 1.1rem;margin-bottom:1rem;overflow-wrap:anywhere}\
.major{border-left-color:var(--part)}.critical{border-left-color:var(--bad)}\
time{color:var(--soft);font-size:.85rem}.told h2{margin:1rem 0 .25rem}.told p{margin:.25rem 0}\
.told ul{border:0;list-style:disc;padding-left:1.25rem}\
.told li{display:list-item;border:0;padding:.1rem 0}\
.days{grid-column:1/-1;width:100%;height:1.25rem}\
.f0{fill:var(--none)}.f1{fill:var(--note)}.f2{fill:var(--ok)}.f3{fill:var(--warn)}\
.f4{fill:var(--part)}.f5{fill:var(--bad)}\
figure{margin:0 0 1rem}figcaption{color:var(--soft);font-size:.85rem}\
.line path{fill:none;stroke:var(--note);stroke-width:1.5;vector-effect:non-scaling-stroke}\
svg.line{width:100%;height:4rem;background:var(--card);border:1px solid var(--line)}\
form{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.5rem 1.1rem}\
select,button,input:not([type]){font:inherit;padding:.4rem .6rem;min-height:2.75rem;max-width:100%;\
color:inherit;background:var(--bg);border:1px solid var(--soft);border-radius:.3rem}\
button{background:var(--note);color:var(--bg);border-color:var(--note);font-weight:600;\
padding:.4rem 1.5rem}h1+form,h1+.said,.said+form{margin-top:1rem}\
fieldset{border:0;padding:0;margin:0}legend{padding:.5rem 0}fieldset br{display:none}\
fieldset label{display:block;padding:.6rem 0 .6rem 1.75rem;text-indent:-1.75rem}\
input[type]{width:1.1rem;height:1.1rem;margin:0 .4rem 0 0;vertical-align:-.15rem;\
accent-color:var(--note)}\
footer{margin-top:2rem;color:var(--soft);font-size:.875rem}footer p{margin:.4rem 0}\
.s0{--c:var(--none)}.s1{--c:var(--note)}.s2{--c:var(--ok)}.s3{--c:var(--warn)}\
.s4{--c:var(--part)}.s5{--c:var(--bad)}\
@media(max-width:30rem){li{grid-template-columns:1fr}.page{padding:.75rem .75rem 2rem}\
.all{padding:.9rem 1rem}}\
@media print{body{background:#fff}}";

/// A shape for each state, so that colour is never all that tells them apart: a ring with dots, a
/// bar in a ring, a tick, a triangle, a half-filled diamond, a cross in an octagon.
pub(super) const SHAPES: &str = "\
<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs>\
<symbol id=\"s0\" viewBox=\"0 0 20 20\"><path fill-rule=\"evenodd\" d=\"M10 1a9 9 0 1 0 0 18 9 9 0 \
0 0 0-18m0 2a7 7 0 1 1 0 14 7 7 0 0 1 0-14\"/><circle cx=\"6.4\" cy=\"10\" r=\"1.2\"/>\
<circle cx=\"10\" cy=\"10\" r=\"1.2\"/><circle cx=\"13.6\" cy=\"10\" r=\"1.2\"/></symbol>\
<symbol id=\"s1\" viewBox=\"0 0 20 20\"><path fill-rule=\"evenodd\" d=\"M10 1a9 9 0 1 0 0 18 9 9 0 \
0 0 0-18M6.8 6h2.2v8H6.8zm4.2 0h2.2v8H11z\"/></symbol>\
<symbol id=\"s2\" viewBox=\"0 0 20 20\"><path fill-rule=\"evenodd\" d=\"M10 1a9 9 0 1 0 0 18 9 9 0 \
0 0 0-18m4.7 5.8 1.3 1.4-7.2 7-4-4 1.4-1.4 2.7 2.7z\"/></symbol>\
<symbol id=\"s3\" viewBox=\"0 0 20 20\"><path fill-rule=\"evenodd\" d=\"M10 1.5 19.6 18.5H.4zM9 7.5\
v5h2v-5zm0 6.3v2h2v-2z\"/></symbol>\
<symbol id=\"s4\" viewBox=\"0 0 20 20\"><path fill-rule=\"evenodd\" d=\"M10 .5 19.5 10 10 19.5.5 10\
zM10 3.3v13.4L16.7 10z\"/></symbol>\
<symbol id=\"s5\" viewBox=\"0 0 20 20\"><path fill-rule=\"evenodd\" d=\"M6.3 1h7.4L19 6.3v7.4\
L13.7 19H6.3L1 13.7V6.3zm.6 4.5L5.5 6.9 8.6 10l-3.1 3.1 1.4 1.4 3.1-3.1 3.1 3.1 1.4-1.4-3.1-3.1 \
3.1-3.1-1.4-1.4L10 8.6z\"/></symbol></defs></svg>";
