//! Templates that want more than they may have. Each must end in an error, soon, in little memory.

use serde_json::json;

use super::{ChatTemplate, TemplateError, TemplateLimits};

/// Renders with a small context, and once more with one that earns all the fuel there is. Without the guards these take
/// minutes and gigabytes.
fn render_twice(source: &str) -> Vec<Result<String, TemplateError>> {
    let small = json!({"messages": [{"role": "user", "content": "hi"}]});
    let large = json!({"messages": [{"role": "user", "content": "x".repeat(1 << 20)}]});
    let mut results = Vec::new();
    for context in [small, large] {
        results.push(ChatTemplate::from_source(source).and_then(|t| t.render(&context, None)));
    }
    results
}

fn assert_all_fail(sources: &[&str]) {
    for source in sources {
        for result in render_twice(source) {
            assert!(
                result.is_err(),
                "{source} gave {:?}",
                result.map(|text| text.len())
            );
        }
    }
}

/// CVE-2024-34359 and CVE-2026-5760: templates from model files that reached the host through Python's objects.
#[test]
fn cve_2024_34359_no_way_from_a_value_to_the_host() {
    assert_all_fail(&[
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__base__.__subclasses__()[0] }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self.__init__.__globals__.__builtins__.__import__('os').system('id') }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{% for c in [].__class__.__base__.__subclasses__() %}{{ c }}{% endfor %}",
        "{{ ''|attr('__class__')|attr('__mro__')|list|first|attr('x')|attr('y') }}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as x %}",
        "{% extends '/etc/passwd' %}",
        "{{ open('/etc/passwd') }}",
        "{{ debug() }}",
    ]);
}

#[test]
fn loops_without_end_run_out_of_fuel() {
    assert_all_fail(&[
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{{ range(1000000000) | list }}",
        "{{ range(1000000000) }}",
        "{% for x in range(99999) %}{% for y in range(99999) %}{{ x }}{% endfor %}{% endfor %}",
    ]);
}

#[test]
fn recursion_ends_at_the_limit() {
    assert_all_fail(&[
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
        "{% block a %}{{ self.a() }}{% endblock %}",
    ]);
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(ChatTemplate::from_source(&deep).is_err());
    let nested = format!(
        "{}{}",
        "{% if 1 %}".repeat(50_000),
        "{% endif %}".repeat(50_000)
    );
    assert!(ChatTemplate::from_source(&nested).is_err());
}

#[test]
fn texts_that_grow_are_paid_for_in_advance() {
    assert_all_fail(&[
        "{{ 'a' * 1000000000 }}",
        "{{ ('a' * 90000000) ~ ('a' * 90000000) ~ ('a' * 90000000) ~ ('a' * 90000000) }}",
        "{{ 'a'.center(1000000000) }}",
        "{{ 'a'.ljust(1000000000) ~ 'a'.zfill(1000000000) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ '{0:1000000000}'.format('a') }}",
        "{{ 'a' | indent(1000000000, true) ~ 'b' | indent(1000000000, true) }}",
        "{{ {'a': {'b': 1}} | tojson(indent=1000000000) }}",
        "{{ messages | tojson(separators=('x' * 100000000, ':')) }}",
        "{{ ('ab' * 100000).replace('a', 'x' * 100000).replace('x', 'y' * 100000) }}",
        "{{ ('ab' * 100000) | replace('a', 'x' * 100000) | replace('x', 'y' * 100000) }}",
        "{{ ('x' * 100000).join(range(90000) | map('string')) }}",
        "{{ range(90000) | join('x' * 100000) }}",
        "{% set ns = namespace(x='a') %}{% for i in range(200) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='a') %}{% for i in range(200) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    ]);
}

#[test]
fn lists_that_are_only_promises_are_paid_for_in_advance() {
    let list = "{% set r = [1] * 100000000 %}";
    for use_of in [
        "{{ r }}",
        "{{ r ~ '' }}",
        "{{ r | string }}",
        "{{ r | tojson }}",
        "{{ r | join }}",
        "{{ r | list }}",
        "{{ r | upper }}",
        "{{ r | e }}",
        "{{ r | sort }}",
        "{{ r | sum }}",
        "{{ r | map('string') | list }}",
        "{{ 'a'.join(r) }}",
        "{{ '%s' | format(r) }}",
        "{{ '{}'.format(r) }}",
        "{{ r == [1] * 100000000 }}",
        "{{ r < [1] * 100000000 }}",
        "{{ 2 in r }}",
        "{{ r in [[1] * 100000000] }}",
        "{{ r is eq([1] * 100000000) }}",
        "{{ {r: 1} }}",
        "{{ {'a': 1}[r] ~ {} }}",
        "{{ [r, [1] * 100000000] | unique | list }}",
        "{{ dict(a=r) }}",
        "{{ range(*r) }}",
        "{{ r | pprint }}",
        "{{ r | urlencode }}",
        "{{ raise_exception(r) }}",
        "{% for x in r %}{% endfor %}",
        "{% for x in [1, 2] %}{{ loop.changed([1] * 100000000) }}{% endfor %}",
    ] {
        assert_all_fail(&[&format!("{list}{use_of}")]);
    }
}

#[test]
fn a_billion_laughs_are_paid_for_in_advance() {
    let laughs = "{% set ns = namespace(x=['ha']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    for use_of in [
        "{{ ns.x }}",
        "{{ ns.x ~ '' }}",
        "{{ ns.x | tojson }}",
        "{{ ns.x == ns.x }}",
        "{{ {ns.x: 1} }}",
        "{{ ns.x | string }}",
    ] {
        assert_all_fail(&[&format!("{laughs}{use_of}")]);
    }
}

#[test]
fn nesting_ends_before_the_stack() {
    let brackets = |inner: &str| format!("{}{inner}{}", "[".repeat(60), "]".repeat(60));
    let nest = format!(
        "{{% set ns = namespace(x=[]) %}}{{% for i in range(99999) %}}{{% set ns.x = {} %}}{{% endfor %}}",
        brackets("ns.x")
    );
    assert_all_fail(&[&nest]);
    // Not out of fuel, but too deep to print, compare or hash.
    let nest = nest.replace("range(99999)", "range(300)");
    for use_of in [
        "{{ ns.x }}",
        "{{ ns.x ~ '' }}",
        "{{ ns.x | tojson }}",
        "{{ ns.x == ns.x }}",
        "{{ {ns.x: 1} }}",
    ] {
        assert_all_fail(&[&format!("{nest}{use_of}")]);
    }
}

#[test]
fn the_context_is_bounded_too() {
    let template = ChatTemplate::from_source("{{ x }}").unwrap();
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!([deep]);
    }
    let error = template.render(&json!({ "x": deep }), None).unwrap_err();
    assert!(
        matches!(error, TemplateError::ContextTooDeep { limit: 120 }),
        "{error}"
    );
    let error = template.render(&json!([1]), None).unwrap_err();
    assert!(
        matches!(error, TemplateError::ContextNotAnObject { found: "array" }),
        "{error}"
    );
    let limits = TemplateLimits {
        output_bytes: 10,
        ..TemplateLimits::default()
    };
    let template = ChatTemplate::with_limits("{{ 'x' * 1000 }}", limits).unwrap();
    let error = template.render(&json!({}), None).unwrap_err();
    assert!(
        matches!(error, TemplateError::OutputTooLarge { limit: 10 }),
        "{error}"
    );
    let long = "x".repeat(TemplateLimits::default().source_bytes + 1);
    assert!(matches!(
        ChatTemplate::from_source(&long),
        Err(TemplateError::TooLarge { .. })
    ));
}

#[test]
fn errors_say_which_kind_they_are() {
    let render = |source: &str| ChatTemplate::from_source(source)?.render(&json!({}), None);
    let error = render("{% macro m() %}{{ raise_exception('no: ' ~ 1) }}{% endmacro %}{{ m() }}")
        .unwrap_err();
    assert!(
        error.is_by_template() && error.to_string() == "no: 1",
        "{error}"
    );
    assert!(matches!(
        render("{% for a in range(99999) %}{% for b in range(99) %}{% endfor %}{% endfor %}"),
        Err(TemplateError::OutOfFuel { .. })
    ));
    assert!(matches!(
        render("{% if %}"),
        Err(TemplateError::Syntax { .. })
    ));
    assert!(matches!(
        render("{{ nothing.at.all }}"),
        Err(TemplateError::Failed { .. })
    ));
    let error = render("{{ 1 < x < 3 }}").unwrap_err();
    assert!(
        error.to_string().contains("chain of comparisons"),
        "{error}"
    );
}
