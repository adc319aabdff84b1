"""Snippets of Jinja and what Python makes of them, configured as transformers configures it.

    python jinja.py > ../fixtures/jinja.json

Needs jinja2 and transformers (whose own compiler of chat templates is used). Each case has the template, its output or
the class of its error; and under `strict` the same with Jinja's `StrictUndefined`, where that differs. What prints an address of memory, or the time, is not among them.
"""

import json
import sys

import jinja2
from transformers.utils import chat_template_utils

VARIABLES = {
    "name": "Ann Lee",
    "text": "the quick  brown fox\njumps over the lazy dog",
    "html": "<b>\"bold\" & 'it'</b>",
    "uni": "Grüße, Straße 🙂 ÉCOLE ﬁn",
    "n": 7,
    "neg": -3,
    "big": 12345678901234567890,
    "f": 2.5,
    "tiny": 1e-07,
    "huge": 1e16,
    "yes": True,
    "no": False,
    "nothing": None,
    "empty": "",
    "nums": [3, 1, 2],
    "floats": [0.1, 0.2, 0.3],
    "words": ["banana", "Apple", "cherry", "apple"],
    "nested": [[1, 2], [3, [4, 5]]],
    "none_list": [],
    "d": {"b": 2, "a": 1, "C": 3, "items": "mine", "nested": {"x": [1, {"y": "z"}]}},
    "people": [
        {"name": "bob", "age": 30, "city": "Rome", "tags": ["x"]},
        {"name": "Al", "age": 25, "city": "rome"},
        {"name": "cy", "age": 30, "city": "Oslo", "tags": []},
    ],
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image"}]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, 2.0, None, True, "é\n"]}}}]},
    ],
}

SNIPPETS = r"""
{{ 1 }}
{{ 1.0 }}
{{ 1e3 }}
{{ 1.5e-10 }}
{{ 1_000_000 }}
{{ 0x1F }} {{ 0o17 }} {{ 0b101 }}
{{ 007 }}
{{ huge }} {{ tiny }} {{ f }} {{ big }}
{{ 1e15 }} {{ 123456789012345680.0 }} {{ 0.0001 }} {{ 0.00001 }}
{{ -0.0 }}
{{ 10 / 4 }} {{ 10 / 5 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }}
{{ 7.5 // 2 }} {{ -7.5 // 2 }} {{ 7.5 % 2 }} {{ -7.5 % 2 }} {{ 7 % -2.5 }}
{{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2.0 ** 0.5 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 2 ** 100 }}
{{ 0 ** -1 }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ 1.0 / 0 }}
{{ 1.0 % 0 }}
{{ 10.0 ** 400 }}
{{ True + True }} {{ True * 3 }} {{ -True }} {{ +False }}
{{ 'a' + 'b' }} {{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ 'ab' * -1 }}|
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ 'a' - 'b' }}
{{ [1] + [2, 3] }} {{ (1,) + (2,) }} {{ [1, 2] * 2 }} {{ (1,) * 2 }}
{{ [1] + (2,) }}
{{ -'a' }}
{{ +nothing }}
{{ nothing + 1 }}
{{ 1 ~ 2 ~ 'x' ~ none ~ true ~ [1] ~ missing }}
{{ 1 + 2 ~ 3 * 4 }}
{{ 'a' ~ 'b' + 'c' }}
{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 1 == 1.0 == True }} {{ 1 != 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ (1,) < (1, 2) }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ [1] == (1,) }} {{ {'a': 1} == {'a': 1.0} }} {{ none == none }} {{ missing == other }} {{ missing == none }}
{{ missing < 1 }}
{{ 1 <= missing }}
{{ 'a' in 'abc' }} {{ 'x' not in 'abc' }} {{ 1 in [1, 2] }} {{ 'a' in d }} {{ 'zz' in d }} {{ 2 in range(3) }} {{ 2.0 in range(3) }} {{ 1 in missing }}
{{ 1 in 'abc' }}
{{ 1 in none }}
{{ 1 in 5 }}
{{ [] in {} }}
{{ missing in 'abc' }}
{{ not 1 }} {{ not '' }} {{ not missing }} {{ not none }} {{ not [] }} {{ not not 1 }}
{{ 1 and 2 }} {{ 0 and 2 }} {{ '' or 'x' }} {{ none or 0 or [] }} {{ 1 or missing.foo }}
{{ 'a' if yes else 'b' }} {{ 'a' if no }}| {{ 'a' if no else 'b' if yes else 'c' }}
{{ ('a' if no) is undefined }}
{{ ('a' if no).foo }}
{{ none }} {{ true }} {{ false }} {{ None }} {{ True }} {{ False }} {{ none_list }}
{{ missing }}|{{ missing.foo }}
{{ missing['foo'] }}
{{ missing() }}
{{ missing + 1 }}
{{ 1 + missing }}
{{ 'a' + missing }}
{{ missing ~ 'a' }} {{ missing|length }} {{ missing|list }} {{ missing|string }}| {{ missing|upper }}|
{{ -missing }}
{{ missing[1:] }}
{{ missing * 2 }}
{{ '%s' % missing }}|
{{ missing % 'a' }}
{{ d.missing }}|{{ d['missing'] }}|{{ nums[9] }}|{{ nums['x'] }}|{{ none.foo }}|{{ 5.5.foo }}
{{ d.missing.more }}
{{ nums[9].x }}
{{ d.b }} {{ d['b'] }} {{ d.nested.x[1].y }} {{ d['nested']['x'][0] }}
{{ d.items }}
{{ d['items'] }} {{ d.items() }}
{{ d.items()|list }} {{ d.keys()|list }} {{ d.values()|list }}
{{ d.keys() }} {{ {'a': 1}.values() }} {{ {'a': 1}.items() }} {{ d.keys()|length }}
{{ d.get('b') }} {{ d.get('q') }} {{ d.get('q', 5) }}
{{ d.get() }}
{{ d.pop('b') }}
{{ d.update({'z': 1}) }}
{{ nums.append(4) }}
{{ nums.append }}| {{ nums.sort }}| {{ d.pop is defined }}
{{ nums.index(2) }} {{ nums.count(1) }} {{ nums.copy() }} {{ d.copy()['a'] }}
{{ nums.index(9) }}
{{ nums.foo() }}
{{ ''.__class__ }}|
{{ ''.__class__.__mro__ }}
{{ ''.__class__() }}
{{ x.__class__ }}
{{ nums.__len__() }}
{{ dict.__init__ }}|
{{ nums[0] }} {{ nums[-1] }} {{ nums[-9] }}| {{ nums[true] }} {{ nums[1.0] }}| {{ nums.0 }} {{ name[0] }} {{ name[-1] }} {{ uni[6] }}
{{ nums[1:] }} {{ nums[:-1] }} {{ nums[::-1] }} {{ nums[::2] }} {{ nums[5:] }} {{ name[::-1] }} {{ uni[-5:] }} {{ name[1:5:2] }} {{ (1,2,3)[1:] }}
{{ nums[::0] }}
{{ nums['a':] }}
{{ d[1:2] }}
{{ none[1:] }}
{{ range(10)[2:8:3]|list }} {{ range(5)[-1] }} {{ range(5)[9] }}|
{{ nums[1, 2] }}|
{{ {'a': 1, 'b': [1, 'x', none], 3: 4.0} }} {{ (1, 'a') }} {{ (1,) }} {{ () }} {{ [] }} {{ {} }}
{{ {[1]: 2} }}
{{ {1: 'a', 1.0: 'b', true: 'c'} }}
{{ 'it\'s' }} {{ ["it's"] }} {{ ['a"b'] }} {{ ['a"b\'c'] }} {{ ['\n\t\\'] }} {{ ['é🙂'] }} {{ ['\x07\x7f'] }} {{ ['\u200b\xa0\u2028'] }}
{{ "a\tb" }} {{ 'a\
b' }} {{ '\x41\u00e9\101' }} {{ 'a' 'b' "c" }} {{ '\d' }}
{{ '\x4' }}
{{ '\é' }}
{{ 'abc
{{ 'abc }}
{{ 1 +
{{ 1 + }}
{{ }}
{{ 1 2 }}
{{ foo bar }}
{% if %}{% endif %}
{% if yes %}
{% endif %}
{% foo %}
{% for %}{% endfor %}
{% for x in %}{% endfor %}
{% for 1 in [1] %}{% endfor %}
{% set 1 = 2 %}
{% set true = 2 %}
{{ (1, 2 }}
{{ [1, 2) }}
{{ 1 ) }}
{{ a.1b }}
{{ $ }}
{{ a ! b }}
{# comment #}x{#- strip -#} y
{# unclosed
{% raw %}{{ x }}{% endraw %}
{% raw %} unclosed
  {%- raw -%}  {{ x }}  {%- endraw -%}  y
{{ 1 if }}
{{ x is }}
{{ x|  }}
{{ x|nofilter }}
{{ 1 is notest }}
{% if false %}{{ x|nofilter }}{% endif %}ok
{% if true %}{{ x|nofilter }}{% endif %}
{{ 1 if true else x|nofilter }}
{{ x|nofilter if false else 2 }}
{% if true %}{% for i in [1] %}{{ i|nofilter }}{% endfor %}{% endif %}
{% if 1 is notest %}{% endif %}
{{ [1]|map('nofilter')|list }}
{{ [1]|select('notest')|list }}
{{ name|upper }} {{ name|lower }} {{ 'hELLO wORLD'|capitalize }} {{ 'hello-world (foo) bar'|title }} {{ "they're bill's"|title }} {{ uni|upper }} {{ uni|title }}
{{ name|upper(1) }}
{{ 5|upper }} {{ none|upper }} {{ [1]|upper }}
{{ '  a b  '|trim }}| {{ 'xxaxx'|trim('x') }} {{ 'xyaxy'|trim(chars='yx') }}
{{ 'abc'|trim(1) }}
{{ 'abc'|center(9) }}| {{ 'abcd'|center(9) }}| {{ 'abc'|center(width=8) }}| {{ 'x'|center|length }}
{{ 'abc'|center(9, 10) }}
{{ 'abc'|center('a') }}
{{ text|wordcount }} {{ ''|wordcount }} {{ "it's a-b c_d é"|wordcount }} {{ 123|wordcount }}
{{ text|wordcount(1) }}
{{ text|truncate(15) }} {{ text|truncate(15, true) }} {{ text|truncate(15, false, '!') }} {{ text|truncate(20, leeway=0) }} {{ 'short'|truncate }} {{ 'abcdefghij'|truncate(5) }}
{{ text|truncate(2) }}
{{ text|truncate(length=12, end='', killwords=True) }}
{{ nums|truncate(3, leeway=0, end='') }}
{{ 5|truncate(3) }}
{{ text|wordwrap(20) }}
{{ text|wordwrap(10, false) }}
{{ 'abcdefghijklmnop qrs'|wordwrap(6) }}
{{ 'abcdefghijklmnop qrs'|wordwrap(6, break_long_words=False, wrapstring='|') }}
{{ 'well-known state-of-the-art a-b -- dash--here e-mail'|wordwrap(12) }}
{{ 'well-known state-of-the-art'|wordwrap(6, break_on_hyphens=false) }}
{{ 'a'|wordwrap(0) }}
{{ 5|wordwrap }}
{{ 'a\nb\n\nc'|indent }}| {{ 'a\nb\n\nc'|indent(2, true) }}| {{ 'a\nb\n\nc'|indent(2, blank=true) }}| {{ 'a\nb'|indent('> ', first=True) }} {{ 'a\n'|indent }}|
{{ 5|indent }}
{{ missing|indent }}
{{ 'abcabc'|replace('b', 'X') }} {{ 'abcabc'|replace('b', 'X', 1) }} {{ 'abc'|replace('', '-') }} {{ 123|replace(2, 'x') }} {{ 'aaa'|replace(old='a', new='b', count=2) }} {{ 'aaa'|replace('a', 'b', 0) }}
{{ 'a'|replace('a') }}
{{ 'a'|replace('a', 'b', 'c') }}
{{ nums|join }} {{ nums|join(', ') }} {{ people|join('/', attribute='name') }} {{ people|join(attribute='age', d='-') }} {{ 'abc'|join('.') }} {{ d|join(',') }} {{ [1, none, 'x', 2.5]|join('|') }} {{ missing|join }}|
{{ 5|join }}
{{ nums|first }} {{ nums|last }} {{ 'abc'|first }} {{ 'abc'|last }} {{ []|first }}| {{ []|last }}| {{ d|first }} {{ range(5)|last }} {{ d|last }} {{ missing|first }}| {{ missing|last }}|
{{ 5|first }}
{{ 5|last }}
{{ nums|map('string')|last }}
{{ [].0.x }}
{{ []|first.x }}
{{ ([]|first).x }}
{{ nums|length }} {{ 'abc'|count }} {{ d|length }} {{ uni|length }} {{ range(7)|length }} {{ ()|count }}
{{ 5|length }}
{{ none|length }}
{{ nums|length(1) }}
{{ nums|list }} {{ 'abc'|list }} {{ d|list }} {{ range(3)|list }} {{ (1, 2)|list }}
{{ 5|list }}
{{ nums|reverse|list }} {{ 'abc'|reverse }} {{ range(3)|reverse|list }} {{ d|reverse|list }} {{ nums|map('abs')|reverse|list }} {{ missing|reverse|list }}
{{ 5|reverse }}
{{ nums|sort }} {{ nums|sort(true) }} {{ words|sort }} {{ words|sort(case_sensitive=true) }} {{ words|sort(reverse=True) }} {{ people|sort(attribute='age')|map(attribute='name')|list }} {{ people|sort(attribute='age,name')|map(attribute='name')|list }} {{ people|sort(attribute='city', reverse=true)|map(attribute='name')|join(',') }}
{{ [1, 'a']|sort }}
{{ [none, 1]|sort }}
{{ people|sort }}
{{ people|sort(attribute='nope') }}
{{ [[2, 'b'], [1, 'c'], [1, 'a']]|sort(attribute='0') }} {{ [[2, 'b'], [1, 'c']]|sort(attribute=0) }} {{ nested|sort(attribute='0') }}
{{ words|unique|list }} {{ words|unique(true)|list }} {{ people|unique(attribute='age')|map(attribute='name')|list }} {{ [1, 1.0, true, 2]|unique|list }}
{{ [[1]]|unique|list }}
{{ nums|min }} {{ nums|max }} {{ words|min }} {{ words|max }} {{ words|min(true) }} {{ people|max(attribute='age') }} {{ []|min }}| {{ people|min(attribute='age') }} {{ 'hello'|max }}
{{ [1, 'a']|max }}
{{ nums|sum }} {{ floats|sum }} {{ people|sum(attribute='age') }} {{ nums|sum(start=10) }} {{ []|sum }} {{ [[1], [2]]|sum(start=[]) }}
{{ words|sum }}
{{ words|sum(start='') }}
{{ nums|batch(2)|list }} {{ nums|batch(2, 'x')|list }} {{ nums|batch(5)|list }} {{ []|batch(2)|list }}
{{ nums|batch }}
{{ range(7)|slice(3)|list }} {{ range(7)|slice(3, 'x')|list }} {{ []|slice(2)|list }} {{ range(6)|slice(3, fill_with=0)|list }}
{{ nums|slice(0)|list }}
{% for row in range(5)|batch(2, '-') %}{{ row|join('') }};{% endfor %}
{{ people|groupby('age') }}
{% for g in people|groupby('city') %}{{ g.grouper }}:{{ g.list|map(attribute='name')|join(',') }};{% endfor %}
{% for k, v in people|groupby('city', case_sensitive=true) %}{{ k }}:{{ v|length }};{% endfor %}
{% for k, v in people|groupby('missing', default='none') %}{{ k }}:{{ v|length }};{% endfor %}
{{ (people|groupby('age'))[0][0] }} {{ (people|groupby('age'))[0].count(25) }}
{{ people|groupby }}
{{ d|dictsort|map('first')|list }} {{ {'b': 1, 'a': 2}|dictsort }} {{ {'b': 1, 'a': 2}|dictsort(by='value') }} {{ {'b': 1, 'A': 2}|dictsort(true) }} {{ {'b': 1, 'A': 2}|dictsort(reverse=true) }}
{{ {'b': 1}|dictsort(by='x') }}
{{ nums|dictsort }}
{{ missing|dictsort }}
{{ {'a': 1, 'b': 2}|items|list }} {{ missing|items|list }}
{{ nums|items|list }}
{{ people|map(attribute='name')|list }} {{ people|map(attribute='tags', default='-')|list }} {{ people|map(attribute='tags.0')|list }} {{ words|map('upper')|list }} {{ words|map('replace', 'a', 'A')|join(' ') }} {{ [['a', 'b']]|map('join', '-')|list }} {{ nums|map('string')|list }} {{ [1.567, 2.5]|map('round', 1)|list }} {{ words|map('truncate', length=3, leeway=0, end='')|list }}
{{ people|map|list }}
{{ people|map(attribute='a', foo=1)|list }}
{{ []|map|list }}
{{ people|map(foo=1)|list }}
{{ 5|map('upper')|list }}
{{ [1, 0, '', 'x', none]|select|list }} {{ [1, 0, '', 'x']|reject|list }} {{ range(6)|select('odd')|list }} {{ range(6)|reject('even')|list }} {{ range(10)|select('divisibleby', 3)|list }} {{ nums|select('gt', 1)|list }} {{ nums|select('in', [1, 2])|list }} {{ [1, none]|reject('none')|list }} {{ words|select('equalto', 'apple')|list }}
{{ people|selectattr('tags')|map(attribute='name')|list }} {{ people|rejectattr('tags')|map(attribute='name')|list }} {{ people|selectattr('age', 'equalto', 30)|map(attribute='name')|list }} {{ people|selectattr('tags', 'defined')|list|length }} {{ people|selectattr('age', '>', 26)|map(attribute='name')|join }} {{ people|rejectattr('city', 'in', ['Rome'])|map(attribute='name')|join }} {{ messages|selectattr('role', 'eq', 'user')|list|length }}
{{ people|selectattr|list }}
{{ nums|select('gt')|list }}
{{ nums|select('gt', 'a')|list }}
{{ [1, 'a']|map('abs')|first }} {{ ['a', 1]|map('length')|first }}
{% set g = nums|map('string') %}{{ g|list }}{{ g|list }}
{% set g = nums|map('nofilter') %}ok
{% set g = nums|select('odd') %}{% for x in g %}{{ x }}{% if loop.last %}!{% endif %}{% endfor %}{{ g|list }}
{{ -5|abs }} {{ (-5)|abs }} {{ -2.5|abs }} {{ true|abs }}
{{ 'a'|abs }}
{{ missing|abs }}
{{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 1234.5|round(-2) }} {{ 1250|round(-2) }} {{ 15|round(-1) }} {{ 7|round }} {{ 7|round(1) }} {{ 2.1|round(0, 'ceil') }} {{ 2.9|round(0, 'floor') }} {{ 2.123|round(2, 'ceil') }} {{ -2.5|round }} {{ 42|round(1, 'ceil') }} {{ 0.5|round }} {{ 1.005|round(2) }}
{{ 2.5|round(method='bad') }}
{{ 'a'|round }}
{{ missing|round }}
{{ '42'|int }} {{ '42.7'|int }} {{ 'x'|int }} {{ 'x'|int(5) }} {{ '0x1F'|int(base=16) }} {{ '1F'|int(0, 16) }} {{ 42.9|int }} {{ -42.9|int }} {{ none|int }} {{ '0b11'|int(0, 2) }} {{ true|int }} {{ ' 12 '|int }} {{ '1_000'|int }} {{ '1__0'|int }} {{ []|int(3) }} {{ '-7'|int }} {{ '1e3'|int }}
{{ missing|int }}
{{ 'inf'|float|int }}
{{ '4.5'|float }} {{ 'x'|float }} {{ 'x'|float(1.5) }} {{ 3|float }} {{ 'inf'|float }} {{ '-Infinity'|float }} {{ 'nan'|float }} {{ '1e5'|float }} {{ '1_0.5'|float }} {{ '.5'|float }} {{ '5.'|float }} {{ none|float }} {{ '1e'|float }}
{{ missing|float }}
{{ 5|string ~ 'x' }} {{ none|string }} {{ [1]|string }} {{ 2.0|string }} {{ missing|string }}|
{{ missing|default }}| {{ missing|default('x') }} {{ none|default('x') }} {{ none|default('x', true) }} {{ ''|d('y', boolean=true) }} {{ 0|default(5) }} {{ d.q|default('z') }} {{ missing|default(default_value=3) }}
{{ missing.x|default('y') }}
{{ html|escape }} {{ html|e|e }} {{ html|safe|e }} {{ html|forceescape }} {{ html|e|forceescape }} {{ 5|e }} {{ none|e }} {{ missing|e }}|
{{ ('<'|e) + '<' }} {{ ('<'|e) ~ '<' }} {{ ['<'|e]|join('<') }} {{ '<'|e is escaped }} {{ '<' is escaped }} {{ '<' + ('<'|e) }} {{ ['<'|e] }} {{ ('<%s>'|safe) % '<' }} {{ ('<'|e) * 2 }} {{ ('<b'|safe).upper() }}
{{ '<b>Hi</b> <!-- c --> a&amp;b &lt; x   y'|striptags }} {{ 5|striptags }}
{{ {'class': 'a b', 'id': none, 'x': '<', 'n': 5}|xmlattr }} {{ {'a': 1}|xmlattr(false) }} {{ {}|xmlattr }}|
{{ {'a b': 1}|xmlattr }}
{{ nums|xmlattr }}
{{ 'a b/c?d=é&f'|urlencode }} {{ {'a b': 'c/d', 'x': 1}|urlencode }} {{ [['a', 'b c'], ('d', 2)]|urlencode }} {{ 5|urlencode }}
{{ nums|urlencode }}
{{ 1|filesizeformat }} {{ 0|filesizeformat }} {{ 999|filesizeformat }} {{ 1000|filesizeformat }} {{ 1234567|filesizeformat }} {{ 1024|filesizeformat(true) }} {{ 123456789|filesizeformat(binary=true) }} {{ '500'|filesizeformat }} {{ 1e30|filesizeformat }}
{{ 'x'|filesizeformat }}
{{ none|filesizeformat }}
{{ {'b': 1, 'a': [1, 2]}|pprint }} {{ 'x'|pprint }} {{ 5|pprint }}
{{ nums|attr('count') is callable }} {{ d|attr('a') }}| {{ n|attr('real') }}
{{ missing|attr('x') }}
{{ d|attr(1) }}
{{ '%s-%s'|format('a', 1) }} {{ '%(a)s'|format(a=5) }} {{ 'x'|format }} {{ '%05.2f'|format(3.14159) }}
{{ '%s'|format(1, a=2) }}
{{ '%s %s'|format(1) }}
{{ '%s'|format(1, 2) }}
{{ '%d' % 5 }} {{ '%5d|%-5d|%05d|%+d|% d' % (5, 5, 5, 5, 5) }} {{ '%x %X %o %#x' % (255, 255, 8, 255) }} {{ '%d' % 3.7 }} {{ '%i' % true }} {{ '%.3d' % 5 }}
{{ '%s' % 'a' }} {{ '%s %s' % ('a', [1]) }} {{ '%r' % 'a' }} {{ '%s' % none }} {{ '%10s|%-10s|%.2s' % ('abc', 'abc', 'abc') }} {{ '%%' % () }} {{ '%c%c' % ('a', 66) }} {{ '%a' % 'é' }}
{{ '%f %.2f %e %.3E %g %G' % (3.14159, 3.14159, 31415.9, 31415.9, 0.00001234, 1e20) }} {{ '%g' % 100000 }} {{ '%g' % 1000000 }} {{ '%08.3f' % -3.14159 }} {{ '%#g' % 1.0 }} {{ '%f' % 1 }}
{{ '%*d' % (5, 42) }} {{ '%-*d|' % (5, 42) }} {{ '%.*f' % (2, 3.14159) }}
{{ '%(a)s %(b)05d' % {'a': 'x', 'b': 5} }} {{ 'abc' % {} }} {{ 'abc' % [1] }} {{ '%s' % {'a': 1} }} {{ '%s' % [1, 2] }}
{{ '%(q)s' % {'a': 1} }}
{{ '%(a)s' % 5 }}
{{ '%(a)s' % [1] }}
{{ '%d' % 'a' }}
{{ '%d' % none }}
{{ '%x' % 1.5 }}
{{ '%f' % 'a' }}
{{ '%c' % 'ab' }}
{{ '%z' % 1 }}
{{ '%' % 1 }}
{{ '%s' % () }}
{{ '%s' % (1, 2) }}
{{ 'abc' % 1 }}
{{ 'abc' % 'd' }}
{{ '%d' % missing }}
{{ '%(a' % {} }}
{{ 'inf'|float }} {{ '%f' % ('inf'|float) }} {{ '%d' % ('inf'|float) }}
{{ '{} {}'.format(1, 'a') }} {{ '{1} {0}'.format(1, 'a') }} {{ '{a} {b!r}'.format(a=1, b='x') }} {{ '{0[0]} {0[1]}'.format([1, 2]) }} {{ '{d[a]}'.format(d=d) }} {{ '{{}}'.format() }} {{ '{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd') }}
{{ '{:05d} {:+d} {:,} {:_} {:x} {:#b} {:o}'.format(42, 42, 1234567, 1234567, 255, 5, 8) }} {{ '{:.2f} {:e} {:g} {:%} {:10.3f}|'.format(3.14159, 31415.9, 0.0001, 0.25, 2.5) }} {{ '{:.3}'.format('abcdef') }} {{ '{:.3}'.format(3.14159) }} {{ '{:,.2f}'.format(1234567.891) }} {{ '{:010,}'.format(1234) }} {{ '{:d}'.format(true) }} {{ '{}'.format(true) }} {{ '{:5}|'.format(true) }} {{ '{:c}'.format(65) }} {{ '{:{w}}|'.format('a', w=5) }} {{ '{:<05}|'.format('a') }} {{ '{:=+6}'.format(5) }} {{ '{:.0f}'.format(2.5) }} {{ '{:.1}'.format(100.0) }} {{ '{:.5}'.format(100.0) }} {{ '{:}'.format(1e16) }}
{{ '{}'.format() }}
{{ '{a}'.format() }}
{{ '{'.format() }}
{{ '}'.format() }}
{{ '{0} {}'.format(1, 2) }}
{{ '{} {0}'.format(1, 2) }}
{{ '{:d}'.format('a') }}
{{ '{:s}'.format(1) }}
{{ '{:.2d}'.format(1) }}
{{ '{:5}'.format([1]) }}
{{ '{:q}'.format(1) }}
{{ '{!z}'.format(1) }}
{{ '{0.__class__}'.format('a') }}|
{{ '{0.foo}'.format('a') }}|
{{ '{a}'.format_map({'a': 1}) }}
{{ 'Hello'.upper() }} {{ 'Hello'.lower() }} {{ 'hELLO'.capitalize() }} {{ 'hello wORLD'.title() }} {{ 'Hello'.swapcase() }} {{ 'ß'.casefold() }} {{ 'ß'.upper() }} {{ 'ǆ'.upper() }} {{ 'ΑΣ'.lower() }} {{ 'ﬁ'.title() }} {{ "it's o'neil".title() }}
{{ '  a '.strip() }}| {{ 'xxa'.lstrip('x') }} {{ 'axx'.rstrip('x') }} {{ 'abcba'.strip('ab') }} {{ ' a '.lstrip() }}| {{ ' a '.rstrip() }}| {{ 'a'.strip(none) }}
{{ 'a'.strip(1) }}
{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a b c d'.split(' ', 2) }} {{ 'a b c  '.split(none, 1) }} {{ 'a b c'.rsplit(' ', 1) }} {{ '  a b c '.rsplit(none, 1) }} {{ 'abc'.split('x') }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a-b-c'.split(sep='-', maxsplit=1) }} {{ 'a'.split(',')[0] }}
{{ 'a'.split('') }}
{{ 'a'.split(1) }}
{{ 'a\nb\r\nc\x0bd'.splitlines() }} {{ 'a\nb\n'.splitlines(true) }} {{ ''.splitlines() }} {{ 'a\n\nb'.splitlines(keepends=False) }}
{{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'abc'.partition('x') }} {{ 'abc'.rpartition('x') }}
{{ 'a'.partition('') }}
{{ ', '.join(['a', 'b']) }} {{ ''.join('abc') }} {{ '-'.join({'a': 1, 'b': 2}) }} {{ '-'.join(words|map('upper')) }}
{{ ''.join([1]) }}
{{ ''.join(5) }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith('bc') }} {{ 'abc'.startswith('b', 1) }} {{ 'abc'.endswith('b', 0, 2) }} {{ 'abc'.startswith('', 9) }}
{{ 'abc'.startswith(1) }}
{{ 'abc'.startswith(['a']) }}
{{ 'abcabc'.find('c') }} {{ 'abcabc'.rfind('c') }} {{ 'abc'.find('x') }} {{ 'abcabc'.index('b', 2) }} {{ 'abcabc'.count('bc') }} {{ 'aaa'.count('aa') }} {{ 'abc'.count('') }} {{ 'é🙂x'.find('x') }} {{ 'abc'.find('', 3) }} {{ 'abc'.find('', 4) }}
{{ 'abc'.index('x') }}
{{ 'aXbX'.replace('X', 'y') }} {{ 'aXbX'.replace('X', 'y', 1) }} {{ 'ab'.replace('', '.') }} {{ 'aaa'.replace('a', 'b', -1) }}
{{ 'a'.replace('a') }}
{{ 'a'.replace(1, 2) }}
{{ 'abc'.center(8) }}| {{ 'abc'.center(8, '*') }} {{ 'ab'.center(7, '*') }} {{ 'abc'.ljust(5) }}| {{ 'abc'.rjust(5, '.') }} {{ '42'.zfill(5) }} {{ '-42'.zfill(5) }} {{ '+4'.zfill(1) }} {{ 'abc'.ljust(2) }}
{{ 'a'.ljust(5, 'xx') }}
{{ 'a'.center() }}
{{ 'a'.zfill('3') }}
{{ 'a\tb'.expandtabs() }}| {{ 'a\tb'.expandtabs(4) }}| {{ 'ab\n\tc'.expandtabs(tabsize=2) }}|
{{ 'abc'.removeprefix('ab') }} {{ 'abc'.removesuffix('bc') }} {{ 'abc'.removeprefix('x') }}
{{ 'abc'.isalpha() }} {{ 'ab1'.isalnum() }} {{ '12'.isdigit() }} {{ '²'.isdigit() }} {{ '²'.isdecimal() }} {{ '½'.isnumeric() }} {{ 'a b'.isspace() }} {{ ' \t'.isspace() }} {{ 'abc'.islower() }} {{ 'ABC1'.isupper() }} {{ 'Ab Cd'.istitle() }} {{ 'a_1'.isidentifier() }} {{ '1a'.isidentifier() }} {{ 'aé'.isascii() }} {{ ''.isalpha() }} {{ 'a\n'.isprintable() }} {{ '１２'.isdigit() }}
{{ 'abc'.isalpha(1) }}
{{ 'abc'.foo() }}
{{ 'abc'.upper }}x
{{ 'a'.upper(1) }}
{{ (5).bit_length() }} {{ (2.0).is_integer() }} {{ 5 .real }} {{ (5).conjugate() }} {{ (5).foo }}|
{{ 5.real }}
{{ 3 is odd }} {{ 3 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(4) }} {{ x is defined }} {{ n is defined }} {{ x is undefined }} {{ none is none }} {{ 0 is none }} {{ true is boolean }} {{ 1 is boolean }} {{ true is true }} {{ 1 is true }} {{ false is false }}
{{ 1 is integer }} {{ true is integer }} {{ 1.0 is float }} {{ 1 is number }} {{ true is number }} {{ 'a' is string }} {{ d is mapping }} {{ nums is sequence }} {{ 'a' is sequence }} {{ d is sequence }} {{ range(2) is sequence }} {{ nums|map('abs') is sequence }} {{ nums|map('abs') is iterable }} {{ 5 is iterable }} {{ none is iterable }} {{ missing is iterable }} {{ missing is sequence }} {{ d.keys() is sequence }}
{{ 'a' is lower }} {{ 'A' is upper }} {{ 'a1' is lower }} {{ 5 is lower }} {{ 'upper' is filter }} {{ 'nope' is filter }} {{ 'odd' is test }} {{ range is callable }} {{ 'a'.upper is callable }} {{ n is callable }} {{ missing is callable }} {{ joiner() is callable }}
{{ 1 is sameas 1 }} {{ none is sameas none }} {{ true is sameas true }} {{ 1 is sameas true }} {{ nums is sameas nums }}
{{ 1 is in [1, 2] }} {{ 'a' is in 'abc' }} {{ 1 is not in [2] }} {{ 1 is == 1 }}
{{ 1 is eq 1 }} {{ 1 is ne 2 }} {{ 2 is gt 1 }} {{ 1 is lt 2 }} {{ 1 is le 1 }} {{ 2 is ge 3 }} {{ 'a' is equalto 'a' }} {{ 3 is greaterthan 2 }} {{ 3 is lessthan 2 }}
{{ 1 is not none and 2 is defined }} {{ not 1 is none }} {{ 1 is odd is even }}
{{ 1 is odd if 2 is even else 3 }} {{ n is defined or x }}
{{ 'a' is odd }}
{{ 1 is in 5 }}
{{ 3 is divisibleby 0 }}
{{ 3 is divisibleby }}
{{ 1 is defined(2) }}
{{ missing is odd }}
{% for x in nums %}{{ x }},{% endfor %}
{% for x in nums %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}
{% for x in nums %}{{ loop.previtem }}|{{ loop.nextitem }}|{{ loop.previtem is defined }};{% endfor %}
{% for x in nums %}{{ loop.cycle('a', 'b') }}{% endfor %}
{% for x in nums %}{{ loop.cycle() }}{% endfor %}
{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }} {% endfor %}
{% for x in nums %}{{ loop }}{% endfor %}
{% for x in nums %}{{ loop.foo }}|{% endfor %}
{% for x in nums if x > 1 %}{{ x }}{{ loop.index }}{{ loop.length }}{{ loop.last }},{% endfor %}
{% for x in [] %}a{% else %}empty{% endfor %} {% for x in nums if x > 9 %}a{% else %}none{% endfor %} {% for x in missing %}a{% else %}undef{% endfor %}
{% for x in none %}{% endfor %}
{% for x in 5 %}{% endfor %}
{% for a, b in [[1, 2], (3, 4)] %}{{ a }}{{ b }};{% endfor %}
{% for a, b in [[1, 2, 3]] %}{% endfor %}
{% for a, b in [[1]] %}{% endfor %}
{% for a, b in [1] %}{% endfor %}
{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k in d %}{{ k }}{% endfor %} {% for c in 'aé🙂' %}[{{ c }}]{% endfor %}
{% for x in nums %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %} {% for x in nums %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in nums %}{% for y in nums %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{% endfor %}
{% break %}
{% for x in nums %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% for item in nested recursive %}{% if item is iterable %}({{ loop(item) }}){% else %}{{ item }}@{{ loop.depth }}{% endif %}{% endfor %}
{% for x in nums %}{{ loop(nums) }}{% endfor %}
{% for x in nums %}{% set y = x %}{% endfor %}{{ y }}|{{ x }}
{% set y = 0 %}{% for x in nums %}{% set y = y + x %}{{ y }},{% endfor %}{{ y }}
{% set ns = namespace(y=0) %}{% for x in nums %}{% set ns.y = ns.y + x %}{% endfor %}{{ ns.y }} {{ ns }} {{ ns.q }}|
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns['a'] }} {{ ns }}
{% set ns = namespace() %}{% set ns._x = 1 %}
{{ namespace(_a=1) }}
{% set d.x = 1 %}
{% set missing.x = 1 %}
{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}
{% for loop in nums %}{% endfor %}
{% for x in nums %}{% set loop = 1 %}{% endfor %}
{{ loop }}|{{ loop.index }}
{% for x in nums %}{% for y in [1] %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}
{% for x in nums %}{% set outer = loop %}{% for y in [1, 2] %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}
{% for x in range(3) %}{% if loop.first %}{{ loop.nextitem }}{% endif %}{{ x }}{% endfor %}
{% for x in nums|map('string') %}{{ loop.length }}{{ loop.revindex }}{{ x }} {% endfor %}
{% for x in nums|map('string') %}{% if not loop.last %}{{ x }},{% else %}{{ x }}.{% endif %}{% endfor %}
{% set ns = namespace(done=false) %}{% for x in nums if not ns.done %}{{ x }}{% set ns.done = true %}{% endfor %}
{% set x = 5 %}{{ x }} {% set x, y = 1, 2 %}{{ x }}{{ y }} {% set (a, b) = (3, 4) %}{{ a }}{{ b }} {% set z = 1, 2 %}{{ z }}
{% set a, b = 1 %}
{% set a, b = 1, 2, 3 %}
{% set x %}hello {{ name }}{% endset %}{{ x }}|{{ x|length }} {% set x | upper %}abc{% endset %}{{ x }} {% set x | replace('a', 'b') | upper %}abc{% endset %}{{ x }}
{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ y }}|{{ x }}
{% if yes %}{% set q = 1 %}{% endif %}{{ q }} {% if no %}{% set r = 1 %}{% endif %}{{ r }}|
{% if no %}a{% elif nothing %}b{% elif n > 5 %}c{% else %}d{% endif %}
{% if missing %}a{% else %}b{% endif %} {% if 0.0 %}a{% else %}b{% endif %} {% if range(0) %}a{% else %}b{% endif %} {% if {} %}a{% else %}b{% endif %} {% if nums|map('abs') %}g{% endif %}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}| {% with %}{% set c = 3 %}{{ c }}{% endwith %}{{ c }}|
{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}
{% filter upper %}abc {{ name }}{% endfilter %} {% filter replace('a', 'x') | upper %}banana{% endfilter %}
{% filter nofilter %}x{% endfilter %}
{% print 1 + 2 %}{% print 'a', 'b' %}
{% do 1 %}
{% macro m(a, b=2) %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(a=5, b=6) }}{{ m() }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, q=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}{{ m() }}
{% macro m(a) %}{{ a }}-{{ varargs|join(',') }}-{{ kwargs.q }}{% endmacro %}{{ m(1, 2, 3, q='z') }}
{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}body{% endcall %}
{% macro m(x) %}{{ caller(x, 2) }}{% endmacro %}{% call(a, b) m(1) %}{{ a }}+{{ b }}{% endcall %}
{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}
{% set x = 1 %}{% macro m() %}{{ x }}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}
{% for x in nums %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}
{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}
{% macro m(a, b=1) %}{{ kwargs }}{% endmacro %}{{ m.name }} {{ m.arguments }} {{ m.catch_kwargs }} {{ m.catch_varargs }} {{ m.caller }} {{ m }}
{% macro m(a=1, b) %}{% endmacro %}
{% macro m() %} x {% endmacro %}|{{ m() }}|{{ m()|trim }}|{{ m()|length }}
{% call missing() %}x{% endcall %}
{% call 5 %}x{% endcall %}
{% macro m() %}a{% endmacro %}{% call m() %}x{% endcall %}
{% macro m(a) %}{{ a is defined }}{{ a }}{% endmacro %}{{ m() }}
{% macro m(*a) %}{% endmacro %}
{{ m() }}{% macro m() %}late{% endmacro %}
{% macro m(x) %}{{ x }}{% endmacro %}{{ m(*[1]) }}{{ m(**{'x': 2}) }}{{ range(*[1, 3])|list }}
{{ dict(**{'a': 1}, b=2) }}
{{ dict(a=1, **{'a': 2}) }}
{{ dict(*5) }}
{{ dict(**5) }}
{{ dict(a=1, b='x') }} {{ dict([['a', 1]]) }} {{ dict({'a': 1}, b=2) }} {{ dict() }} {{ dict.fromkeys(['a', 'b'], 0) }} {{ dict([('x', 1)], y=2).y }}
{{ dict([1]) }}
{{ dict([[1, 2, 3]]) }}
{{ dict(1, 2) }}
{{ range(5) }} {{ range(1, 5)|list }} {{ range(5, 0, -2)|list }} {{ range(0)|list }} {{ range(1, 10, 3) }} {{ range(3) == range(0, 3) }}
{{ range(100001) }}
{{ range(10**9) }}
{{ range('a') }}
{{ range(1, 2, 0) }}
{{ range() }}
{{ range(1.5) }}
{% set c = cycler('a', 'b', 'c') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{% set _ = c.reset() %}{{ c.current }} {{ c.items }}
{{ cycler() }}
{% set j = joiner() %}{% for x in nums %}{{ j() }}{{ x }}{% endfor %} {% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ j() }}
{% set j = joiner(sep='; ') %}{{ j() }}{{ j() }} {{ j.used }}
{{ joiner(1, 2) }}
{{ raise_exception('boom') }}
{{ raise_exception() }}
{{ strftime_now('%Y')|length }} {{ strftime_now('%%') }}
{{ strftime_now() }}
{{ d|tojson }} {{ people|tojson }} {{ '<é"\n>'|tojson }} {{ none|tojson }} {{ 1.0|tojson }} {{ [1, 2.5, true, none]|tojson }} {{ (1, 2)|tojson }} {{ {}|tojson }} {{ []|tojson }} {{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }} {{ '\x7f\x01\u2028'|tojson }}
{{ d|tojson(indent=2) }}
{{ [1, [2], {}, []]|tojson(indent=4) }}
{{ 'é🙂'|tojson(ensure_ascii=true) }} {{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }} {{ [1, 2]|tojson(separators=(',', ':')) }} {{ {'a': 1}|tojson(separators=[', ', ' = ']) }} {{ [1]|tojson(indent='--') }} {{ [1]|tojson(indent=0) }} {{ {'a': [1]}|tojson(false, 1) }}
{{ missing|tojson }}
{{ range(3)|tojson }}
{{ nums|map('abs')|tojson }}
{{ {(1, 2): 3}|tojson }}
{{ {1: 2, 'a': 3}|tojson(sort_keys=true) }}
{{ [1]|tojson(foo=1) }}
{{ 'inf'|float|tojson }} {{ 'nan'|float|tojson }} {{ 1e16|tojson }} {{ 1e-7|tojson }}
{{ messages[2].tool_calls|tojson }} {{ messages[2].tool_calls[0].function.arguments|tojson(indent=1) }}
{{ 'a'|tojson|e }}
{% generation %}abc{% endgeneration %} {%- generation -%} x {%- endgeneration %}
{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}{{ q }}|
{% for m in messages %}{% generation %}{{ m.role }}{{ loop.index }}{% endgeneration %}{% endfor %}
{% generation %}unclosed
{% autoescape true %}{{ html }}{{ html|safe }}{{ '<' ~ ('<'|safe) }}{% endautoescape %}{{ html }}
{% autoescape true %}{% set x %}<{% endset %}{{ x }}{{ ['<', '<'|safe]|join('<') }}{% endautoescape %}
{% block a %}x{{ name }}{% endblock %} {% block b %}{% endblock b %}
{% block a %}{% endblock %}{% block a %}{% endblock %}
{% set x = 1 %}{% block a %}{{ x }}{% endblock %}{% for i in [1] %}{% block c %}{{ i }}|{% endblock %}{% block e scoped %}{{ i }}{% endblock %}{% endfor %}
{% include 'x' %}
{% import 'x' as y %}
{% extends 'x' %}
{% from 'x' import y %}
{% if yes -%}   a   {%- endif %}|
{% if yes %}
  a
  {% endif %}
b
  {% if yes %}x{% endif %}  
y
  {{ name }}
{%+ if yes %}a{% endif +%}
b
{{- name -}}   x
a {{- ' b' }}
   {% set x = 1 +%}
z
x {# c #}
y
  {# c +#}
y
  {#- c -#}
y
a{% set x = 1 %}

b
{{ '{{ x }}' }} {{ "{% raw %}" }}
{{ {'a': {'b': 1}}['a']['b'] }}{{ {'a':1}}}
{{ [1,2,] }} {{ (1,2,) }} {{ {'a':1,} }} {{ m(1,) if false else 'x' }}
{{ [1,,2] }}
{{ {'a'} }}
{{ {'a': } }}
{{ a.b.c if a is defined else 'no' }}
{{ (1).foo.bar }}
{{ 1.2.3 }}
{{ 1 .foo }}|
{{ name.0 }} {{ nested.1.1.0 }}
{{ name['upper']() }} {{ nums['count'](1) }}
{{ nums|length == 3 and 'a' in words[1]|lower }}
{{ not nums|length == 3 }}
{{ 1 + 2|string }}
{{ -1|abs }} {{ -nums|length }}
{{ 2 + 3 * 4 - 1 }} {{ (2 + 3) * 4 }} {{ 10 - 2 - 3 }} {{ 2 * 3 % 4 }} {{ 7 // 2 * 2 }} {{ not true or true }} {{ 1 + 1 == 2 }} {{ 'a' 'b' ~ 'c' }}
{{ name if name else 'x' ~ 'y' }}
{{ foo(1, 2 }}
{{ foo(a=1, 2) }}
{{ foo(*a, *b) }}
{{ foo(**a, b=1) }}
{{ 5(1) }}
{{ 'a'() }}
{{ nums() }}
{{ name.upper().lower().title().split()[0][::-1] }}
{{ [x for x in nums] }}
{{ lambda: 1 }}
{{ x = 1 }}
{{ nums[0] if nums else none }} {{ nums[:1] + nums[1:] == nums }}
{% set x = {'a': 1} %}{% set y = x %}{{ x == y }} {{ x is sameas y }}
{{ messages|length }} {% for m in messages %}<|{{ m.role }}|>{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}{{ c.type }}{{ c.text }}{% endfor %}{% endif %}{% if m.tool_calls %}{{ m.tool_calls[0].function|tojson }}{% endif %}{% endfor %}
{%- for m in messages -%}
    {%- if loop.first and m['role'] == 'system' -%}
        {{- '<s>' + m['content'] -}}
    {%- elif m['role'] == 'user' -%}
        {{- m['content'][0]['text'] -}}
    {%- endif -%}
{%- endfor -%}
{%- set tools = tools if tools is defined and tools is not none else [] -%}{{ tools }}
{{ messages[0]['content'] + '\n' }}{{ messages[-1].role }}{{ messages[1:]|length }}
{{ messages|map(attribute='role')|join(',') }} {{ (messages|selectattr('role', 'equalto', 'user')|first).content[0].text }}
{% set loop_messages = messages[1:] if messages[0].role == 'system' else messages %}{{ loop_messages[0].role }}
{{ (messages|last).tool_calls[0].function.arguments.a[2] is none }}
{{ 'a,b'.split(',')|map('trim')|list }} {{ ('a b'.split(' ')|last)|upper }}
{{ namespace(a=1).a }} {{ namespace(a=[1]).a[0] }}
{{ 100000000000000000000 }} {{ 100000000000000000000 + 1 }} {{ big * 10 }} {{ big // 7 }} {{ big % 7 }}
{{ 3.0 }} {{ 3.0 == 3 }} {{ 1e22 }} {{ 1.7976931348623157e308 }} {{ 5e-324 }} {{ 0.1 + 0.2 }} {{ 1/3 }} {{ 100.0 * 1.1 }} {{ 1e100 }}
{{ 'é' < 'z' }} {{ 'a' < 'B' }} {{ '🙂' > '\uffff' }} {{ [1, [2, 'a']] == [1, [2, 'a']] }} {{ [none] == [none] }} {{ {'a': 1} != {'a': 2} }}
{{ none is defined }} {{ nothing is defined }} {{ nothing is none }} {{ nothing == none }} {{ nothing|default('x') }} {{ nothing|string|length }}
{{ yes|string }} {{ yes|lower }} {{ yes|int + 1 }} {{ yes ~ '' }} {{ 'True' == yes|string }}
{{ ['a', 'b']|string }} {{ {'a': none}|string }} {{ [true, false]|join(' ') }}
{{ '' if x is not defined else x }}| {{ x or 'fallback' }} {{ (x or [])|length }} {{ x|default([], true)|length }}
{{ '\\' }} {{ "\"" }} {{ '\'' }} {{ 'tab\there' }} {{ '\u0041' }} {{ '\U0001F642' }} {{ 'a\\nb' }}
{{ 1 if yes and not no else 2 }} {{ yes and 'a' or 'b' }} {{ (yes, no) }} {{ yes == 1 }} {{ yes in [1] }}
"""


def result(template, undefined):
    """The text or the error of a template; None where it cannot be compared."""
    environment = chat_template_utils.ImmutableSandboxedEnvironment
    chat_template_utils.ImmutableSandboxedEnvironment = lambda **rest: environment(undefined=undefined, **rest)
    try:
        compiled = chat_template_utils._cached_compile_jinja_template(template)
        text = compiled.render(**json.loads(json.dumps(VARIABLES)))
    except RecursionError:
        return None
    except Exception as error:
        # Jinja's optimizer writes infinity into Python code as a name.
        name = type(error).__name__
        return None if name == "NameError" else {"error": name}
    finally:
        chat_template_utils.ImmutableSandboxedEnvironment = environment
    return None if " at 0x" in text else {"text": text}


def main():
    cases = []
    whole = SNIPPETS.strip("\n").split("\n")
    whole += BLOCKS
    whole += [t.replace("\n", "\r\n") for t in BLOCKS if "\n" in t]
    whole += [t.replace("\n", "\r") for t in BLOCKS[:4]]
    # Each expression of a line also stands alone, so that a fault in one hides no other.
    for line in list(whole):
        if "\n" not in line and "{%" not in line and line.count("{{ ") > 1:
            whole += ["{{ " + part for part in line.split("{{ ")[1:]]
    seen = set()
    for template in whole:
        if template in seen:
            continue
        seen.add(template)
        loose, strict = result(template, jinja2.Undefined), result(template, jinja2.StrictUndefined)
        if loose is None:
            continue
        case = {"template": template, **loose}
        if strict is not None and strict != loose:
            case["strict"] = strict
        cases.append(case)
    json.dump({"variables": VARIABLES, "cases": cases}, sys.stdout, ensure_ascii=False, indent=0)
    print()
    counts = {name: sum(name in case for case in cases) for name in ("error", "strict")}
    print(len(cases), "cases", counts, file=sys.stderr)


BLOCKS = [
    "{% if yes %}\n  a\n  {% endif %}\nb\n",
    "  {% if yes %}x{% endif %}  \ny\n\n",
    "{% for x in nums %}\n  {{ x }}\n{% endfor %}\nend",
    "{%- for x in nums -%}\n  {{ x }}\n{%- endfor -%}\nend",
    "{%+ if yes %}\na\n  {%+ endif +%}\nb",
    "x {# c #}\ny\n  {# c +#}\nz\n  {#- d -#}\nw",
    "a\n  {% raw %}\n  {{ x }}\n  {% endraw %}\nb",
    "a\n  {%- raw -%}\n  {{ x }}\n  {%- endraw -%}\nb",
    "{{ 'a\nb' }}{{ \"c\\\nd\" }}",
    "a\n\n\n",
    "\n\n{{ name }}\n\n",
    "{% macro m(a) %}\n  [{{ a }}]\n{% endmacro %}\n{{ m(1) }}\n{{ m(2)|trim }}",
    "{% set x %}\n  a\n{% endset %}\n[{{ x }}]",
    "{{ name\n}}\n{{\n  name|upper\n}}",
    "  {{ name }}\n\t{% set a = 1 %}\n\t{{ a }}\n",
    "a {% if yes %}\nb\n{% else %}\nc\n{% endif %} d",
    "{% call(x) m() %}{% endcall %}",
    "{% filter indent(2) %}\na\nb\n{% endfilter %}",
    "{%- set a = 1 -%}\n\n  {{- a }}\n\n{{ a -}}\n  b",
]

if __name__ == "__main__":
    main()
