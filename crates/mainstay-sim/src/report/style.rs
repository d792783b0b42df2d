//! Colours, letters and the little script of the page.
//!
//! Colours mean the same everywhere: blues are tiers, the deeper the higher; green is well, amber
//! doubtful, red lost. Each has a light and a dark form of like contrast.

/// The style sheet.
pub const STYLE: &str = "
:root{color-scheme:light dark;--page:#fbfbfa;--card:#fff;--ink:#1c2024;--soft:#60666d;
--line:#e4e5e3;--shade:#f3e9d7;--bar:#e9b872;--on-bar:#3a2600;--good:#2f8f6b;--good-fill:#bfe3d3;
--shed:#d99a1c;--failed:#c8403a;--offered:#6a7178;--room:#9aa1a8;--tier0:#27447f;--tier1:#5b83cf;
--tier2:#b6cdf2;--tier3:#dfe8f8;--up:#cfe8dc;--suspect:#f0b429;--down:#c8403a;--probation:#8e7cc3;
--mark:#5b6b7a;--pass:#dff1e8;--pass-ink:#1d6b4c;--fail:#fbe3e1;--fail-ink:#9c2a25}
@media (prefers-color-scheme:dark){:root{--page:#14171a;--card:#1b1f23;--ink:#e7e9ea;--soft:#9aa2a9;
--line:#2b3036;--shade:#2a2518;--bar:#8a6424;--on-bar:#fff0d9;--good:#55bd94;--good-fill:#1f4a3a;
--shed:#e0ab45;--failed:#e2665f;--offered:#b3bac0;--room:#6b737b;--tier0:#8fb0f0;--tier1:#4a6fb8;
--tier2:#2c426d;--tier3:#222f47;--up:#1f3a2f;--suspect:#c9931d;--down:#c24a44;--probation:#8171b8;
--mark:#8d9aa6;--pass:#17382b;--pass-ink:#8fdcb9;--fail:#40201e;--fail-ink:#f0a29c}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',sans-serif}
main{max-width:1040px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:24px;line-height:1.25;margin:4px 0 6px;font-weight:650;letter-spacing:-.01em}
h2{font-size:16px;margin:36px 0 4px;font-weight:650}
h3{font-size:14px;margin:20px 0 0;font-weight:600}
p{margin:4px 0;color:var(--soft);max-width:76ch}
a{color:inherit}
.eyebrow{color:var(--soft);font-size:13px;margin:0}
.verdict-word{display:inline-block;padding:2px 10px;border-radius:999px;font-size:13px;
font-weight:600;vertical-align:3px;margin-left:8px}
.passed{background:var(--pass);color:var(--pass-ink)}
.failed-word{background:var(--fail);color:var(--fail-ink)}
.run{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:24px;
margin:28px 0}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:8px;
margin:18px 0 4px}
.figure{border:1px solid var(--line);border-radius:8px;padding:8px 12px}
.figure b{display:block;font-size:20px;font-weight:600;font-variant-numeric:tabular-nums}
.figure span,.figure small{color:var(--soft);font-size:12px;display:block}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font-size:11.5px;fill:var(--ink);font-family:inherit}
.tick{fill:var(--soft)!important;font-size:10.5px!important;font-variant-numeric:tabular-nums}
.name{font-weight:600}
.grid{stroke:var(--line);stroke-width:1}
.band{fill:var(--shade)}
.fault{fill:var(--bar)}
.line{fill:none;stroke-width:1.6;stroke-linejoin:round}
.line.offered{stroke:var(--offered)}.line.room{stroke:var(--room);stroke-dasharray:5 4}
.line.shed{stroke:var(--shed)}.line.failed{stroke:var(--failed)}.line.good{stroke:var(--good)}
.line.ramp{stroke:var(--good)}.line.credit{stroke:var(--tier1)}
.area.good{fill:var(--good-fill)}.area.shed{fill:var(--shed)}.area.failed{fill:var(--failed)}
.area.tier0{fill:var(--tier0)}.area.tier1{fill:var(--tier1)}.area.tier2{fill:var(--tier2)}
.area.tier3{fill:var(--tier3)}
.verdict{shape-rendering:crispEdges}
.verdict.up{fill:var(--up)}.verdict.suspect{fill:var(--suspect)}.verdict.down{fill:var(--down)}
.verdict.probation{fill:var(--probation)}
.mark{fill:var(--mark);fill-opacity:.75}
.cross{stroke:var(--ink);stroke-opacity:.35;visibility:hidden}
.key{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:12.5px;color:var(--soft);margin:2px 0 6px}
.key i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;
vertical-align:-1.5px}
.key i.thin{height:0;border-top:2px solid;border-radius:0;vertical-align:3px}
.key i.dash{height:0;border-top:2px dashed;border-radius:0;vertical-align:3px}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;margin:8px 0}
th,td{text-align:left;padding:5px 12px 5px 0;border-bottom:1px solid var(--line);
vertical-align:top}
th{font-weight:600;color:var(--soft);font-size:12.5px}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.bad{color:var(--failed);font-weight:600}.well{color:var(--good);font-weight:600}
.stamps{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:12px;
margin:16px 0}
.stamps a{display:block;text-decoration:none;background:var(--card);border:1px solid var(--line);
border-radius:8px;padding:10px 12px}
.stamps a:hover{border-color:var(--soft)}
.stamps span{display:flex;justify-content:space-between;font-size:12.5px;color:var(--soft)}
.stamps b{color:var(--ink);font-weight:600}
.tip{position:fixed;pointer-events:none;background:var(--card);color:var(--ink);
border:1px solid var(--line);border-radius:6px;padding:6px 10px;font-size:12px;
box-shadow:0 4px 14px rgb(0 0 0/.14);visibility:hidden;white-space:pre;
font-variant-numeric:tabular-nums;z-index:9}
h2.first{margin-top:4px;font-size:18px}
table.map{width:auto;border-collapse:separate;border-spacing:2px;margin:12px 0}
.map th,.map td{border:0;padding:2px 12px 2px 0;white-space:nowrap;vertical-align:middle}
.map th b{color:var(--ink)}
.map th.value{text-align:center;padding:2px 4px;font-variant-numeric:tabular-nums}
.map td.gap{padding:0 8px}
.map td.field{min-width:38px;padding:3px 4px;text-align:center;border-radius:4px;font-weight:700;
cursor:default}
.map-passed{background:var(--pass);color:var(--pass-ink)}
.map-over{background:var(--line);color:var(--soft)}
.map-failed{background:var(--shed);color:#2b1a00}
.map-down{background:var(--failed);color:#fff}
.signs b{display:inline-block;min-width:22px;text-align:center;border-radius:4px;margin-right:6px}
pre{font-size:11px;overflow-x:auto;max-width:640px}
details{margin:10px 0}
summary{cursor:pointer;color:var(--soft);font-size:13px}
footer{color:var(--soft);font-size:12.5px;margin-top:40px}
@media print{.run{break-inside:avoid;border:0;padding:0}}
";

/// Values under the pointer. The page says everything without it.
pub const SCRIPT: &str = "
(function(){var tip=document.createElement('div');tip.className='tip';
document.body.appendChild(tip);
function clock(s){s=Math.round(s);return s<120?s+' s':Math.floor(s/60)+':'+
('0'+s%60).slice(-2)+' min'}
document.querySelectorAll('svg.chart').forEach(function(svg){
var left=+svg.dataset.left,right=+svg.dataset.right,end=+svg.dataset.seconds;
var rows=svg.dataset.rows.split(';').map(function(r){var p=r.split('=');
return[p[0],(p[1]||'').split(',')]});
var cross=svg.querySelector('.cross');
svg.addEventListener('pointermove',function(e){var box=svg.getBoundingClientRect();
var x=(e.clientX-box.left)/box.width*svg.viewBox.baseVal.width;
if(x<left||x>right)return hide();
var part=(x-left)/(right-left),lines=[clock(part*end)];
rows.forEach(function(r){var at=Math.min(r[1].length-1,Math.floor(part*r[1].length));
if(at>=0)lines.push(r[0]+'  '+r[1][at])});
tip.textContent=lines.join('\\n');tip.style.visibility='visible';
tip.style.left=Math.min(e.clientX+14,innerWidth-tip.offsetWidth-8)+'px';
tip.style.top=Math.min(e.clientY+14,innerHeight-tip.offsetHeight-8)+'px';
cross.setAttribute('x1',x);cross.setAttribute('x2',x);cross.style.visibility='visible'});
function hide(){tip.style.visibility='hidden';cross.style.visibility='hidden'}
svg.addEventListener('pointerleave',hide)})})();
";
