//! The `generation` block of transformers, spelled with tags every Jinja knows.
//!
//! Training code marks the assistant's part of a text with `{% generation %}` …
//! `{% endgeneration %}`. For rendering it only opens a scope of its own, so
//! the tag becomes `{% with %}` … `{% endwith %}`. Only tag names are replaced:
//! strings, comments and raw blocks stay as they are, and so do line numbers.

use std::ops::Range;

/// Rewrites the block's tags; returns the text unchanged when there are none.
pub(super) fn replace_generation_blocks(source: &str) -> String {
    if !source.contains("generation") {
        return source.to_owned();
    }
    let mut out = String::with_capacity(source.len());
    let mut copied = 0;
    for name in tag_names(source) {
        let new = match &source[name.clone()] {
            "generation" => "with",
            "endgeneration" => "endwith",
            _ => continue,
        };
        out.push_str(&source[copied..name.start]);
        out.push_str(new);
        copied = name.end;
    }
    out.push_str(&source[copied..]);
    out
}

/// Where the names of block tags stand, in order.
fn tag_names(source: &str) -> Vec<Range<usize>> {
    let mut names = Vec::new();
    let mut at = 0;
    while let Some(open) = next_open(source, at) {
        at = match &source[open..open + 2] {
            "{#" => find_after(source, open + 2, "#}"),
            "{{" => end_of_code(source, open + 2, "}}"),
            _ => {
                let name = name_at(source, open + 2);
                let is_raw = &source[name.clone()] == "raw";
                let end = end_of_code(source, name.end, "%}");
                names.push(name);
                if is_raw { end_of_raw(source, end) } else { end }
            }
        };
    }
    names
}

/// The next `{{`, `{%` or `{#` at or after `from`.
fn next_open(source: &str, from: usize) -> Option<usize> {
    let bytes = source.as_bytes();
    (from..bytes.len().saturating_sub(1))
        .find(|&i| bytes[i] == b'{' && matches!(bytes[i + 1], b'{' | b'%' | b'#'))
}

fn find_after(source: &str, from: usize, what: &str) -> usize {
    source[from..]
        .find(what)
        .map_or(source.len(), |i| from + i + what.len())
}

/// The word after the opening of a tag, past whitespace control and spaces.
fn name_at(source: &str, from: usize) -> Range<usize> {
    let bytes = source.as_bytes();
    let mut start = from;
    if matches!(bytes.get(start), Some(b'-' | b'+')) {
        start += 1;
    }
    while bytes.get(start).is_some_and(u8::is_ascii_whitespace) {
        start += 1;
    }
    let mut end = start;
    while bytes
        .get(end)
        .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
    {
        end += 1;
    }
    start..end
}

/// End of a tag or expression whose closing delimiter is `close`; delimiters inside strings do not count.
fn end_of_code(source: &str, from: usize, close: &str) -> usize {
    let bytes = source.as_bytes();
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            _ if bytes[at..].starts_with(close.as_bytes()) => return at + close.len(),
            _ => at += 1,
        }
    }
    source.len()
}

/// Past the `endraw` tag that closes a raw block whose text begins at `from`.
fn end_of_raw(source: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(open) = source[at..].find("{%").map(|i| at + i) {
        let name = name_at(source, open + 2);
        if &source[name.clone()] == "endraw" {
            return find_after(source, name.end, "%}");
        }
        at = open + 2;
    }
    source.len()
}

#[cfg(test)]
mod tests {
    use super::replace_generation_blocks as replace;

    #[test]
    fn the_block_becomes_a_scope() {
        assert_eq!(
            replace("a{%- generation -%}b{% endgeneration %}c"),
            "a{%- with -%}b{% endwith %}c"
        );
        assert_eq!(
            replace("{%generation%}{%\n endgeneration %}"),
            "{%with%}{%\n endwith %}"
        );
    }

    #[test]
    fn text_strings_comments_and_raw_blocks_stay() {
        for kept in [
            "{{ '{% generation %}' }}",
            "{# {% generation %} #}",
            "{% raw %}{% generation %}{% endraw %}",
            "{% if add_generation_prompt %}generation{% endif %}",
            "{% set x = '%} {% generation %}' %}",
            "{{ \"\\\"{% generation %}\" }}",
        ] {
            assert_eq!(replace(kept), kept);
        }
    }

    #[test]
    fn cut_templates_do_not_run_past_the_end() {
        let text = "{% raw %}{% generation é {{ '\\";
        for (cut, _) in text.char_indices() {
            replace(&format!("generation{}", &text[..cut]));
        }
        replace("{{ 'generation\\é");
    }
}
