use super::*;

#[test]
fn indenting_changes_only_whitespace() {
    let text = r#" {"b":1.0e400,"a":[],"a":{ },"q":"\\\"x: {","n":[1,[true,null]]} "#;
    let expected = "{\n  \"b\": 1.0e400,\n  \"a\": [],\n  \"a\": {},\n  \"q\": \"\\\\\\\"x: {\",\n  \
        \"n\": [\n    1,\n    [\n      true,\n      null\n    ]\n  ]\n}";
    assert_eq!(indented(text).expect("JSON"), expected);
    assert_eq!(indented("12").expect("JSON"), "12");
    assert!(indented("{\"a\":").is_none());
}

#[test]
fn keys_and_texts_have_different_classes() {
    let (blocks, _) = blocks(r#"{"k":"v"}"#, PREVIEW_BYTES);
    let classes: Vec<_> = blocks.iter().flatten().map(|t| (t.class, t.text.as_str())).collect();
    assert_eq!(classes, [("", "{\n  "), ("j-key", "\"k\""), ("", ": "), ("j-text", "\"v\""), ("", "\n}")]);
}

#[test]
fn a_large_body_is_cut_or_split_into_blocks() {
    let numbers = vec!["1234567"; 150_000].join(",");
    let text = format!("[{numbers}]");
    let page = Body::new("b", "Sent", &text, "/x", false);
    let shown: usize = page.blocks.iter().flatten().map(|token| token.text.len()).sum();
    assert!(page.is_cut && shown <= PREVIEW_BYTES, "{shown}");
    assert_eq!(page.summary(), "1.1 MiB, the beginning");
    let whole = Body::new("b", "Sent", &text, "/x", true);
    assert!(!whole.is_cut && whole.blocks.len() > 700, "{}", whole.blocks.len());
    assert!(whole.blocks.iter().flatten().all(|token| token.class.is_empty()));
    let all: String =
        whole.blocks.iter().flatten().map(|token| token.text.replace(char::is_whitespace, "")).collect();
    assert_eq!(all, text);
}

#[test]
fn text_that_is_not_json_is_shown_unchanged() {
    let deep = "[".repeat(60_000);
    for text in ["", "plain\n\ntext", "<script>alert(1)</script>", "{\"a\"", &deep] {
        let (blocks, is_cut) = blocks(text, usize::MAX);
        assert!(!is_cut);
        let all: String = blocks.iter().flatten().map(|token| token.text.as_str()).collect();
        assert_eq!(all, text);
    }
    let (cut, is_cut) = blocks("añañ", 2);
    assert!(is_cut);
    assert_eq!(cut.iter().flatten().map(|token| token.text.as_str()).collect::<String>(), "a");
}

#[test]
fn the_formatted_body_is_at_most_a_few_times_as_large() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(300_000), "]".repeat(300_000));
    let wide = format!("{}{}{}", "[".repeat(120), vec!["1"; 500_000].join(","), "]".repeat(120));
    let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let brackets = format!("[{}]", vec!["[[[[]]]]"; 100_000].join(","));
    for text in [deep, wide, objects, brackets] {
        let whole = Body::new("b", "Sent", &text, "/x", true);
        let built: usize = whole.blocks.iter().flatten().map(|token| token.text.capacity()).sum();
        assert!(built <= 12 * text.len(), "{built} bytes of {}", text.len());
        let indented = indented(&text).map_or(0, |text| text.len());
        assert!(indented <= 5 * text.len() + PREVIEW_BYTES, "{indented} bytes of {}", text.len());
    }
}
