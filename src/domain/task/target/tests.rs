use super::*;

#[test]
fn a_masked_url_shows_only_the_origin() {
    for (url, masked) in [
        ("https://api.example:8443/bot12:secret/send", "https://api.example:8443/***"),
        ("https://crm.example/?token=secret", "https://crm.example/***"),
        ("https://crm.example?", "https://crm.example/***"),
        ("https://crm.example", "https://crm.example/"),
        ("http://[::1]:81/a", "http://[::1]:81/***"),
        ("secret", "http://secret/"),
        ("ftp://crm.example/secret", "***"),
    ] {
        assert_eq!(HttpTarget::masked(url), masked, "{url}");
    }
}

#[test]
fn a_url_may_be_typed_without_scheme() {
    for (typed, expected) in [
        ("120.0.0.1:5000/api", "http://120.0.0.1:5000/api"),
        ("localhost:5000", "http://localhost:5000/"),
        ("localhost:8080/x", "http://localhost:8080/x"),
        ("crm", "http://crm/"),
        ("crm/", "http://crm/"),
        ("crm.example//x", "http://crm.example//x"),
        ("  crm.example/a  ", "http://crm.example/a"),
        ("https://crm.example/hook?x=1", "https://crm.example/hook?x=1"),
        ("HTTP://CRM.example/A", "http://crm.example/A"),
        ("hTTps://crm.example.:8443/a//b", "https://crm.example.:8443/a//b"),
        ("[::1]:80/a", "http://[::1]/a"),
        ("http://[::1]:81/a", "http://[::1]:81/a"),
        ("127.0.0.1:5000/a?u=http://x", "http://127.0.0.1:5000/a?u=http://x"),
        ("relay.example/http://x/y", "http://relay.example/http://x/y"),
        ("https://relay.example/https://x", "https://relay.example/https://x"),
        ("http://relay.example?u=http:\\\\x", "http://relay.example/?u=http:\\\\x"),
        ("http:8080/x", "http://http:8080/x"),
        ("http/x", "http://http/x"),
        ("http://x.sh", "http://x.sh/"),
        ("x.sh/hook", "http://x.sh/hook"),
        ("http://http/x", "http://http/x"),
        ("http://https:8443/x", "http://https:8443/x"),
        ("http://crm:/x", "http://crm/x"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("my_host:80/x", "http://my_host/x"),
        ("https://crm.example/u@v", "https://crm.example/u@v"),
        ("https://crm.example/a b", "https://crm.example/a%20b"),
    ] {
        assert_eq!(typed.parse::<HttpTarget>().expect(typed).as_str(), expected);
    }
}

#[test]
fn a_typo_is_rejected_with_a_suggestion() {
    for (typed, expected) in [
        ("http://http://x", "http://x"),
        ("http://https://x/y?z=1", "https://x/y?z=1"),
        ("https://http:x", ""),
        ("http://https//x", "https://x"),
        ("HTTP://HTTPS://x", "https://x"),
        ("https:/x", "https://x"),
        ("http:/x:8080/y", "http://x:8080/y"),
        ("https:x", "https://x"),
        ("http:localhost:8080/x", "http://localhost:8080/x"),
        ("http:\\\\x\\y", "http://x/y"),
        ("http:///x", "http://x"),
        ("https//x", "https://x"),
        ("https;//x", "https://x"),
        ("https.//x", "https://x"),
        ("http;//x", "http://x"),
        ("http.//x", "http://x"),
        ("http ://x", "http://x"),
        ("ht tp://x", "http://x"),
        ("http://www.http://x", "http://x"),
        ("http://crm.example://x", ""),
        ("ht!tp://x", "http://x"),
        ("htttp://x", "http://x"),
        ("htps://x", "https://x"),
        ("hxxps://x", ""),
        ("://x", "http://x"),
        ("//x/y", "http://x/y"),
    ] {
        let error = typed.parse::<HttpTarget>().expect_err(typed).to_string();
        if expected.is_empty() {
            assert!(!error.contains("did you mean"), "{typed}: {error}");
        } else {
            assert!(error.ends_with(&format!("did you mean {expected}?")), "{typed}: {error}");
        }
    }
}

#[test]
fn a_url_without_a_valid_host_is_rejected() {
    for (typed, why) in [
        ("", "no host"),
        ("   ", "no host"),
        ("https", "no host"),
        ("x.sh", "a script's file"),
        ("api.php", "a script's file"),
        ("/api", "no host"),
        ("/", "no host"),
        ("?x=1", "no host"),
        ("#x", "no host"),
        ("C:\\x", "a backslash"),
        ("C:/x", "no port after the colon"),
        ("\\\\server\\share", "a backslash"),
        ("crm:/x", "no port after the colon"),
        ("http://", "no host"),
        ("https://?x", "no host"),
        ("http://:80", "empty host"),
        ("http://user@", "user or password"),
        ("http://@x", "user or password"),
        ("http://u:p@h/", "user or password"),
        ("u:p@h/", "user or password"),
        ("joe@crm.example/x", "user or password"),
        ("http://x:99999", "invalid port"),
        ("x:0", "no port 0"),
        ("http://x:80a/", "invalid port"),
        ("mailto:joe", "invalid port"),
        ("ftp://a/b", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("ws://x", "only http and https"),
        ("http://h/#x", "#fragment"),
        ("a b", ""),
        ("http://x/a\tb", "U+0009"),
        ("ht\ntp://x", "U+000A"),
        ("http://x\r\ny", "U+000D"),
        ("http://x\u{200b}y/", "U+200B"),
        ("http://$HOST/x", "cannot contain '$'"),
        ("http://{host}/x", ""),
        ("http://<host>/x", ""),
        ("http://a..b/", "1 to 63 characters"),
        ("http://a,b/", "cannot contain ','"),
        ("*", "cannot contain '*'"),
    ] {
        let error = typed.parse::<HttpTarget>().expect_err(typed).to_string();
        assert!(error.contains(why), "{typed:?}: {error}");
        assert!(!error.contains("p@h"), "{error}");
    }
}

#[test]
fn stored_urls_can_still_be_read() {
    for stored in ["http://http//x", "http://https/x", "http://c/x", "http://ht!tp//x", "http://x:0/"] {
        let json = format!("{stored:?}");
        let target: HttpTarget = serde_json::from_str(&json).expect(stored);
        assert_eq!(target.as_str(), stored);
        assert_eq!(serde_json::to_string(&target).expect("json"), json);
    }
}
