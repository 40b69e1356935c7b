import pytest

from emu.coredns.gotemplate import TemplateError, parse

DATA = {
    "Name": "ip-10-0-0-1.example.",
    "Zone": "example.",
    "Match": ["whole", "one", "0a"],
    "Group": {"a": "10", "0": "whole"},
    "Question": {"Name": "X.example.", "Qtype": 1},
}

RENDERED = [
    ("plain", "plain"),
    ("{{ .Name }} 60 IN A 1.2.3.4", "ip-10-0-0-1.example. 60 IN A 1.2.3.4"),
    ("{{.Zone}}", "example."),
    ("{{ .Group.a }}.{{ .Group.a }}", "10.10"),
    ("{{ .Group.b }}", "<no value>"),
    ("{{ index .Match 1 }}", "one"),
    ('{{ index .Group "a" }}', "10"),
    ("{{ .Question.Qtype }}", "1"),
    ("{{ parseInt (index .Match 2) 16 8 }}", "10"),
    ('{{ printf "%s-%03d %q %x" .Zone 7 "a" 255 }}', 'example.-007 "a" ff'),
    ("{{ len .Match | print }}", "3"),
    ("{{ slice .Name 3 5 }}", "10"),
    ('{{ if eq .Zone "example." }}yes{{ else }}no{{ end }}', "yes"),
    ("{{ if not .Match }}a{{ else if .Group.a }}b{{ else }}c{{ end }}", "b"),
    ("{{ range .Match }}<{{ . }}>{{ end }}", "<whole><one><0a>"),
    ("{{ range $i, $m := .Match }}{{ $i }}{{ $m }}{{ end }}", "0whole1one20a"),
    ("{{ range .Group.x }}a{{ else }}none{{ end }}", "none"),
    ("{{ with .Group.a }}{{ . }}{{ $.Zone }}{{ end }}", "10example."),
    ("{{ $x := .Group.a }}{{ $x }}{{ $x = 3 }}{{ $x }}", "103"),
    ("a {{- 1 -}} b", "a1b"),
    ("{{/* nothing */}}x", "x"),
    ('{{ "a}}b" }}{{ `c` }}', "a}}bc"),
    ("{{ and 1 0 }}{{ or 0 2 }}{{ lt 1 2 }}", "02true"),
    ("{{ (index .Match 1) }}", "one"),
    ("{{ .Match }}", "[whole one 0a]"),
]


@pytest.mark.parametrize(("text", "expected"), RENDERED)
def test_a_template_renders_as_in_go(text, expected):
    assert parse(text, frozenset(DATA)).render(DATA) == expected


REFUSED = [
    ("{{ .Nope }}", "there is no field .Nope"),
    ("{{ $.Nope }}", "there is no field .Nope"),
    ("{{ html .Name }}", 'there is no function "html"'),
    ("{{ .Name", "an action is not closed"),
    ("{{ if .Name }}x", "has no end"),
    ("{{ end }}", "without a beginning"),
    ("{{ }}", "an action is empty"),
    ("{{ (len .Match }}", "a parenthesis is not closed"),
    ("{{ .Name | }}", "a command of a pipeline is empty"),
    ("{{ .Name .Zone }}", "is no function"),
    ("{{ & }}", "is not understood"),
    ('{{ define "x" }}{{ end }}', 'there is no function "define"'),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_is_not_understood_is_refused(text, message):
    with pytest.raises(TemplateError) as caught:
        parse(text, frozenset(DATA))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["{{ index .Match 9 }}", '{{ parseInt "x" 10 8 }}', '{{ parseInt "300" 10 8 }}', "{{ .Name.x }}",
     "{{ $y }}", "{{ slice .Name 5 3 }}", '{{ eq 1 "1" }}', "{{ len 3 }}"],
)  # fmt: skip
def test_what_goes_wrong_while_running_is_one_error(text):
    with pytest.raises(TemplateError):
        parse(text, frozenset(DATA)).render(DATA)
