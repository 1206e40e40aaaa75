"""The page of a bench as a Jinja template."""

from bayfed.evaluation.page import MACROS, STYLE

PAGE = (
    MACROS
    + r"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ name }} · bayfed bench</title>
<style>
"""
    + STYLE
    + r"""
main { max-width: 74rem; }
figure.wide { margin: 1.8rem 0; }
figure.wide figcaption { margin-top: .5rem; color: var(--soft); max-width: 44rem; }
tr > :nth-child(2) { text-align: left; }
td:nth-child(2) { color: var(--soft); }
</style>
</head>
<body>
<main>
<header>
<p class="kicker">bayfed bench</p>
<h1>{{ name }}</h1>
{% for text in summary %}
<p class="verdict">{{ text }}</p>
{% endfor %}
</header>
{% for section in sections %}
<section>
<h2>{{ section.title }}</h2>
{% for text in section.texts %}
<p class="soft">{{ text }}</p>
{% endfor %}
{% for caption, table in section.tables %}{{ plain(table, caption) }}{% endfor %}
{% for chart, svg in section.figures %}
<figure class="wide" style="max-width: {{ (7 * chart.size[0]) | round(1) }}rem">{{ svg }}<figcaption><b>{{ chart.title }}.</b> {{ chart.caption }}</figcaption></figure>
{% endfor %}
{% for caption, table in section.details %}
<details><summary>{{ caption }}</summary>{{ plain(table, caption) }}</details>
{% endfor %}
</section>
{% endfor %}
<section>
<h2>What was run</h2>
{{ facts(facts_of.items()) }}
<details><summary>Settings of each system</summary><pre>{{ settings_text }}</pre></details>
</section>
<section>
<h2>How to read this page</h2>
<ul class="notes">
{% for note in notes %}
<li>{{ note }}</li>
{% endfor %}
</ul>
</section>
</main>
</body>
</html>
"""
)
