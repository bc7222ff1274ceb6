"""The page's style sheet: light and dark by the reader's choice, one column on a phone, black on white on paper.

Colours are Okabe and Ito's, which people with any colour vision tell apart; nothing is said by colour alone.
"""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b2330;--quiet:#5a6575;--line:#dfe3e9;--grid:#e9ecf0;
--blue:#0072b2;--blue-soft:#0072b21f;--pale:#c9d6e2;--orange:#b84e00;--orange-soft:#d55e0018;--green:#00724f;
--green-soft:#009e7318;--grey:#8a94a3;--shadow:0 1px 2px #1b23300f,0 4px 16px #1b23300a}
@media (prefers-color-scheme:dark){:root{--bg:#11151b;--card:#191f28;--ink:#e7ebf0;--quiet:#9aa6b5;--line:#2c3542;
--grid:#252d38;--blue:#56b4e9;--blue-soft:#56b4e926;--pale:#3a4858;--orange:#ff9a52;--orange-soft:#ff9a5220;
--green:#3fcf9f;--green-soft:#3fcf9f1c;--grey:#748094;--shadow:none}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
main{max-width:1240px;margin:0 auto;padding:28px 24px 56px}
h1,h2,h3,h4,p,ul,dl,dd{margin:0;padding:0}
h1,h2,h3,h4,th,td,li,p,code{overflow-wrap:anywhere}
h1{font-size:30px;line-height:1.2;letter-spacing:-.02em}
h2{font-size:19px;letter-spacing:-.01em;margin:0 0 2px}
h3{font-size:15px;line-height:1.35}
h4{font-size:14px}
code{font:12.5px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.quiet{color:var(--quiet);font-size:13px}
header{display:flex;flex-wrap:wrap;gap:12px 24px;align-items:center;justify-content:space-between;margin-bottom:20px}
header>div{min-width:0}
.verdict{font-weight:600;padding:8px 16px;border-radius:999px;background:var(--grid)}
.verdict.met,.badge.met{background:var(--green-soft);color:var(--green)}
.verdict.missed,.badge.missed,.badge.warning{background:var(--orange-soft);color:var(--orange)}
section{margin-top:36px}
section>.quiet{margin-bottom:12px;max-width:80ch}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,370px),1fr));gap:16px}
.card,.panel{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:18px 20px;
box-shadow:var(--shadow);min-width:0}
.card.missed{border-left:4px solid var(--orange)}
.card ul{padding-left:18px;margin-top:8px}
.card li+li{margin-top:4px}
.cards>.card{display:flex;flex-direction:column}
section>h2+:not(.quiet){margin-top:12px}
.card-head{display:flex;gap:12px;justify-content:space-between;align-items:flex-start}
.card-head>div{min-width:0}
.badge{flex:none;display:inline-block;font-size:12px;font-weight:600;padding:2px 10px;border-radius:999px;
background:var(--grid);color:var(--quiet)}
dl{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:12px;margin-top:16px}
dl>div{display:flex;flex-direction:column;min-width:0}
dt{order:1;font-size:13px;font-weight:600}
dd{overflow-wrap:break-word}
dd.quiet{order:2;font-size:12px;line-height:1.4;margin-top:2px}
.big{font-size:25px;line-height:1.25;font-weight:650;letter-spacing:-.03em;color:var(--blue);white-space:nowrap}
.big.worse{color:var(--orange)}
.big small{font-size:15px;letter-spacing:0}
.card dl{margin-bottom:14px}
.card .goals{list-style:none;padding:10px 0 0;margin-top:auto;border-top:1px solid var(--line);font-size:13px}
.met{color:var(--green)}
span.missed{color:var(--orange)}
span.met,span.missed{font-weight:700}
.panel+.panel{margin-top:16px}
.panel h3{margin:16px 0 4px}
.panel h3:first-child{margin-top:0}
.split{display:grid;gap:24px;align-items:start;grid-template-columns:minmax(0,1fr)}
.pair{display:grid;gap:28px;grid-template-columns:minmax(0,1fr)}
.chart{display:block;width:100%;height:auto;margin:0 auto;overflow:visible}
.chart.narrow{max-width:440px}
.chart.wide{display:none;max-width:760px}
.chart text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink);
font-variant-numeric:tabular-nums}
.chart .tick,.chart .axis{fill:var(--quiet)}
.chart .end{text-anchor:end}
.chart .middle{text-anchor:middle}
.chart .must{font-weight:600}
.chart .label,.chart .goal-label{paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
.chart .goal-label{fill:var(--orange)}
.chart .grid{stroke:var(--grid)}
.chart .base{stroke:var(--grey)}
.chart .goal{stroke:var(--orange);stroke-dasharray:5 4}
.chart .leader{stroke:var(--grey);stroke-width:.8}
.chart .front{fill:none;stroke:var(--blue);stroke-width:1.5;opacity:.45}
.chart .shape{fill:var(--card);stroke:var(--grey);stroke-width:1.5}
.chart .on-front .shape{fill:var(--blue);stroke:var(--blue)}
.chart .chosen .shape{fill:var(--blue);stroke:var(--blue)}
.chart .baseline .shape{fill:var(--card);stroke:var(--ink);stroke-width:2}
.chart .refused .shape{fill:none;stroke:var(--orange);stroke-width:2}
.chart .ring{fill:none;stroke:var(--blue);stroke-width:1.5}
.chart .whisker{stroke:var(--grey);stroke-width:1.2}
.chart .touch{fill:transparent;stroke:none}
.chart .mark:hover .touch{fill:var(--blue-soft)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;list-style:none;font-size:12.5px;color:var(--quiet);margin-top:8px;
justify-content:center}
.legend b{color:var(--ink);font-weight:600}
.legend .c-blue{color:var(--blue)}
.legend .c-orange{color:var(--orange)}
table{border-collapse:collapse;width:100%}
th{text-align:left;font-weight:400}
.num{text-align:right}
.scroll{overflow-x:auto}
.plain{font-size:13px}
.plain th,.plain td{padding:6px 10px 6px 0;border-bottom:1px solid var(--grid);vertical-align:top}
.plain thead th{color:var(--quiet);font-size:12px;white-space:nowrap}
.plain td.num{white-space:nowrap}
.plain tr>:last-child{padding-right:0}
.plain tbody th{min-width:11ch}
.figures{min-width:680px}
.figures td:nth-child(n+2):nth-child(-n+5){white-space:nowrap}
.figures .first>*{border-top:1px solid var(--line)}
.figures .first th{font-weight:600}
.facts th{white-space:nowrap;color:var(--quiet);width:1%;padding-right:20px!important}
.state{font-size:12px;color:var(--quiet);white-space:nowrap}
.state.chosen{color:var(--blue);font-weight:600}
.state.baseline{color:var(--ink);font-weight:600}
.state.refused{color:var(--orange);font-weight:600}
.bars{font-size:13px;table-layout:fixed}
.bars th,.bars td{padding:4px 0;vertical-align:middle}
.bars th{width:34%;padding-right:14px;line-height:1.35}
.bars th .quiet{font-size:12px}
.bars .num{width:88px;padding-left:12px;white-space:nowrap;font-weight:600}
.bars .note{width:108px;padding-left:12px;white-space:nowrap;color:var(--quiet)}
.pair .bars th{width:36%}
.pair .bars .note{width:100px;font-size:12px}
.pair h4+.quiet{margin-bottom:6px}
.pair .bars th .quiet{display:block}
.quiet+.pair{margin-top:12px}
.bars svg{display:block;overflow:visible}
.bars .now{fill:var(--blue)}
.bars .before{fill:var(--pale)}
.bars .now.first{fill:var(--grey)}
.bars .now.noise{fill:var(--orange)}
.findings{list-style:none;display:grid;gap:12px}
.findings li{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:12px 16px;max-width:960px}
.findings p{margin-top:4px}
details{margin-top:10px}
summary{cursor:pointer;color:var(--blue);font-size:13px;padding:2px 0}
footer{margin-top:40px;color:var(--quiet);font-size:12.5px}
@media (min-width:700px){.chart.narrow{display:none}.chart.wide{display:block}}
@media (min-width:1000px){.split{grid-template-columns:minmax(0,58fr) minmax(0,42fr)}
.pair{grid-template-columns:repeat(2,minmax(0,1fr))}}
@media (max-width:560px){main{padding:20px 14px 40px}h1{font-size:24px}.card,.panel{padding:14px}
.big{font-size:21px}dl{gap:8px}
.bars tr{display:grid;grid-template-columns:1fr auto auto;padding:5px 0}
.bars th,.pair .bars th{width:auto}.bars td.bar{grid-row:2;grid-column:1/4}
.bars .num,.bars .note,.pair .bars .note{width:auto}.bars .note:empty{padding:0}}
@media print{:root{color-scheme:light;--bg:#fff;--card:#fff;--ink:#000;--quiet:#444;--line:#bbb;--grid:#ddd;
--blue:#0072b2;--pale:#c9d6e2;--orange:#b84e00;--green:#00724f;--grey:#777;--shadow:none}
body{font-size:11px}main{max-width:none;padding:0}section{margin-top:18px}
.card,.findings li,tr,.chart{break-inside:avoid}h2,h3,h4{break-after:avoid}
.split{grid-template-columns:1fr}.scroll{overflow:visible}.figures{min-width:0}
details::details-content{content-visibility:visible;display:block}}
"""
