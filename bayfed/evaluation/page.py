"""The report's page as Jinja templates: a module, because a Flower bundle carries no HTML."""

STYLE = r""":root {
  color-scheme: light dark;
  --sans: ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --paper: #fcfcfa; --ink: #1b1c1e; --soft: #5d6066; --line: #dddcd6; --wash: #f3f2ed;
  --before: #c4560a; --after: #0069a6;
}
@media (prefers-color-scheme: dark) {
  :root { --paper: #141517; --ink: #e7e6e2; --soft: #a3a4a6; --line: #36383c; --wash: #1d1f22;
          --before: #f0954a; --after: #62b8ec; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--sans); }
main { max-width: 62rem; margin: 0 auto; padding: 3.5rem 1.5rem 5rem; }
header { margin-bottom: 3rem; }
.kicker { margin: 0 0 .4rem; color: var(--soft); font-size: .85rem; }
h1 { margin: 0; font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.15; letter-spacing: -.02em; font-weight: 650; overflow-wrap: anywhere; }
h2 { margin: 3.6rem 0 .5rem; padding-top: 1.1rem; border-top: 1px solid var(--line); font-size: 1.25rem; letter-spacing: -.01em; font-weight: 620; }
h3 { margin: 2rem 0 .4rem; font-size: 1rem; font-weight: 620; overflow-wrap: anywhere; }
p { max-width: 44rem; margin: .5rem 0; }
.soft, .scroll + p { color: var(--soft); }
.verdict { max-width: 46rem; margin: 1.6rem 0 0; padding-left: 1.1rem; border-left: 3px solid var(--soft); font-size: clamp(1.05rem, 2.6vw, 1.25rem); line-height: 1.5; }
.verdict.better { border-color: var(--after); }
.verdict.worse { border-color: var(--before); }
.scroll { margin: 1.2rem 0; overflow-x: auto; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--after); outline-offset: 3px; }
table { border-collapse: collapse; font-size: .86rem; line-height: 1.3; font-variant-numeric: tabular-nums lining-nums; }
caption { padding-bottom: .6rem; text-align: left; color: var(--soft); font-size: .86rem; }
th, td { padding: .38rem .75rem; text-align: right; white-space: nowrap; font-weight: 400; }
thead th { border-bottom: 1px solid var(--line); color: var(--soft); font-size: .8rem; vertical-align: bottom; }
tbody tr + tr > * { border-top: 1px solid color-mix(in srgb, var(--line) 55%, transparent); }
tfoot tr:first-child > * { border-top: 1px solid var(--soft); }
th[scope=row], thead tr:first-child th:first-child { position: sticky; left: 0; z-index: 1; padding-left: 0; background: var(--paper); text-align: left; }
table { min-width: min(22rem, 100%); }
.pairs { width: 100%; }
.pairs thead tr:first-child th[colspan] { border-bottom: 0; padding-bottom: 0; color: var(--ink); }
.pairs .from { padding-right: .35rem; color: var(--soft); }
.pairs .from + * { padding-left: .35rem; }
.mean > * { font-weight: 650; }
tfoot tr:not(.mean) > * { color: var(--soft); font-size: .8rem; padding-block: .22rem; }
figure { margin: 0; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { font-size: .86rem; line-height: 1.4; }
.dumbbell { max-width: 36rem; margin: 1.6rem 0; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr)); gap: 2rem 2.5rem; margin: 1.4rem 0; }
.curves figcaption { margin-bottom: .5rem; font-weight: 620; }
.scale { display: block; width: min(24rem, 100%); height: auto; margin: .8rem 0 1.2rem; font: 11.5px var(--sans); fill: var(--ink); color: var(--ink); }
.gallery { display: flex; flex-wrap: wrap; gap: 1.4rem 1.3rem; }
.gallery figure { flex: var(--tiles) 1 calc(var(--tiles) * 5.5rem); max-width: calc(var(--tiles) * 10rem); }
.tiles { display: grid; grid-template-columns: repeat(var(--tiles), 1fr); gap: .35rem; align-items: start; }
.tiles div { font-size: .74rem; color: var(--soft); }
.tiles img { display: block; width: 100%; height: auto; border-radius: 2px; margin-bottom: .15rem; }
.gallery figcaption { margin-top: .35rem; }
.gallery figcaption b { font-weight: 620; overflow-wrap: anywhere; }
.gallery figcaption span { white-space: nowrap; margin-right: .6em; color: var(--soft); font-variant-numeric: tabular-nums; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 0 2.5rem; margin: 1.2rem 0; font-size: .9rem; }
.facts div { display: grid; grid-template-columns: 7.5rem 1fr; gap: .8rem; padding: .42rem 0; border-bottom: 1px solid color-mix(in srgb, var(--line) 55%, transparent); }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
details { margin: 1.2rem 0; }
summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
pre { overflow-x: auto; padding: 1rem; background: var(--wash); border-radius: 4px; font: .78rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
ul.notes { max-width: 44rem; padding-left: 1.1rem; }
ul.notes li { margin: .35rem 0; }
@media (max-width: 34rem) {
  main { padding: 2rem 1.1rem 4rem; }
  h2 { margin-top: 2.8rem; }
  .facts div { grid-template-columns: 6.2rem 1fr; }
  th[scope=row] { min-width: 6.6rem; white-space: normal; overflow-wrap: anywhere; }
  th, td { padding-inline: .5rem; }
}
@media print { main { max-width: none; padding: 0; } .scroll { overflow: visible; } figure, tr { break-inside: avoid; } }
"""
"""The style sheet of all pages."""

MACROS = r"""{% macro plain(table, caption) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ caption }}">
<table>
<caption>{{ caption }}</caption>
<thead><tr>{% for heading in table.headings %}<th scope="col">{{ heading }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.body %}
<tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
{% macro facts(items) %}
<dl class="facts">{% for name, text in items %}<div><dt>{{ name }}</dt><dd>{{ text }}</dd></div>{% endfor %}</dl>
{% endmacro %}
"""
"""Tables and lists that pages share."""

PAGE = (
    MACROS
    + r"""{% macro pairs(table, caption) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ caption }}">
<table class="pairs">
<caption>{{ caption }}</caption>
<thead>
<tr><th scope="col" rowspan="2">Site</th>{% for heading in table.headings %}<th scope="colgroup" colspan="2">{{ heading }}</th>{% endfor %}</tr>
<tr>{% for heading in table.headings %}<th scope="col" class="from">control</th><th scope="col">trained</th>{% endfor %}</tr>
</thead>
<tbody>
{% for site, cells in table.body %}
<tr><th scope="row">{{ site }}</th>{% for before, after in cells %}<td class="from">{{ before }}</td><td>{{ after }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
<tfoot>
<tr class="mean"><th scope="row">Mean</th>{% for before, after in table.means %}<td class="from">{{ before }}</td><td>{{ after }}</td>{% endfor %}</tr>
<tr><th scope="row">Difference</th>{% for text in table.differences %}<td colspan="2">{{ text }}</td>{% endfor %}</tr>
<tr><th scope="row">95 % interval</th>{% for text in table.intervals %}<td colspan="2">{{ text }}</td>{% endfor %}</tr>
<tr><th scope="row">Sites paired</th>{% for count in table.counts %}<td colspan="2">{{ count }}</td>{% endfor %}</tr>
</tfoot>
</table>
</div>
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ experiment.name }} · bayfed report</title>
<style>
"""
    + STYLE
    + r"""</style>
</head>
<body>
<main>
<header>
<p class="kicker">bayfed report</p>
<h1>{{ experiment.name }}</h1>
<p class="verdict {{ outcome }}">{{ verdict }}</p>
</header>

{% for part in comparisons %}
<section>
<h2>{{ "Before and after training" if loop.first else part.title }}</h2>
{% if loop.first %}<p>{{ part.title }}</p>{% endif %}
<p class="soft">{{ part.protocol }} Control: the same method and settings at round-0 parameters. Trained: the last round, not the best. Draws of the support are averaged within a site; intervals are over sites.</p>
{% if part.dumbbell %}
<figure class="dumbbell">{{ part.dumbbell }}</figure>
{% endif %}
{% if part.detection %}{{ pairs(part.detection, "Detection and localisation, mean over draws") }}{% endif %}
{% if part.arms %}{{ plain(part.arms, "All arms at their last round") }}{% endif %}
{% if part.calibration %}
<h3>Calibration on good images not used for fitting</h3>
{{ plain(part.calibration, "Mean over sites, beside the value a calibrated detector would have") }}
<details><summary>Calibration of each site</summary>{{ pairs(part.calibration_sites, "Calibration, mean over draws") }}</details>
{% endif %}
{% if part.cost %}{{ plain(part.cost, "A fitted detector, mean over sites") }}{% endif %}
</section>
{% endfor %}

{% if gallery %}
<section>
<h2>Surprise of test images</h2>
<p class="soft">One scale for all pictures, so colours compare between them. Surprise and score are counted from the median score of the site's own support, in units of its spread. A white line surrounds what is at or above the threshold. Sites and images are drawn by the seed, not chosen.</p>
{{ colour_bar }}
{% for site, cards in gallery | groupby("case.site") %}
<h3>{{ site }}</h3>
<div class="gallery">
{% for card in cards %}
<figure style="--tiles: {{ card.images | length }}">
<div class="tiles">
{% for what, label, uri in card.images %}
<div><img src="{{ uri }}" alt="{{ card.case.site }}, {{ card.case.defect or 'good' }}: {{ what }}">{{ label }}</div>
{% endfor %}
</div>
<figcaption><b>{{ card.case.defect or "good" }}</b><br>{% for text in card.caption %} <span>{{ text }}</span>{% endfor %}</figcaption>
</figure>
{% endfor %}
</div>
{% endfor %}
</section>
{% endif %}

{% if rounds %}
<section>
<h2>Rounds</h2>
<div class="curves">
{% for title, svg in curves %}
<figure><figcaption>{{ title }}</figcaption>{{ svg }}</figure>
{% endfor %}
</div>
<details><summary>Numbers of each round</summary>{{ plain(rounds, "Communication and time are those of all clients together") }}</details>
{% if clients %}<details><summary>Clients of the last round</summary>{{ plain(clients, "Each client's own loss, update and time") }}</details>{% endif %}
</section>
{% endif %}

<section>
<h2>What was run</h2>
{{ facts(settings.items()) }}
<details><summary>All settings</summary><pre>{{ settings_text }}</pre></details>
{% if environment %}<h3>With what</h3>{{ facts(environment.items()) }}{% endif %}
</section>

<section>
<h2>How to read this page</h2>
<ul class="notes">
<li>{{ law }}</li>
<li>AUPRO is the mean covered share of the defect regions, up to a pixel false-positive rate of 0.3. F1 max is the best over all thresholds, chosen on the labels it is measured on.</li>
{% for note in notes %}<li>{{ note }}</li>{% endfor %}
</ul>
</section>
</main>
</body>
</html>
"""
)
