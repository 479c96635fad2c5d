//! Answers with invalid header lines, or with too many.

use super::super::super::testing::{Trial, answering, failure, runner, script_settings, success};
use crate::domain::outcome::{FailureKind, Outcome};

async fn answer(status: &str, lines: &str) -> Outcome {
    let answer = format!("HTTP/1.1 {status}\r\n{lines}content-length: 2\r\nconnection: close\r\n\r\n{{}}");
    let mut trial = Trial::http(answering(answer).await);
    trial.answer_limit = Some(1000);
    trial.run(&runner(script_settings())).await
}

#[tokio::test]
async fn a_malformed_header_line_does_not_hide_the_status() {
    let many = (0..101).fold(String::new(), |lines, n| format!("{lines}x-{n}: 1\r\n"));
    for lines in [
        "x-a : blank before the colon\r\n",
        "no colon at all\r\n",
        "nocolon\r\n",
        "x-a: control \x01 byte\r\n",
        "x-\x01a: control byte\r\n",
        "x-a: folded\r\n line\r\n",
        "x-a: folded\r\n\tline\r\n",
        "x a: blank in the name\r\n",
        "x-a: caf\u{e9}\r\n",
        "x-\u{e9}: 1\r\n",
        ": no name\r\n",
        "<b>Warning</b>: headers already sent in /srv/x.php\r\n",
        "x-a: 1\n",
        &many,
        &many.repeat(4),
    ] {
        let label = lines.get(..40).unwrap_or(lines);
        match answer("200 OK", lines).await {
            Outcome::Succeeded { answer, .. } => assert_eq!(answer.as_deref(), Some(&b"{}"[..]), "{label:?}"),
            other => panic!("{label:?}: {other:?}"),
        }
        let (failed, _) = failure(answer("400 Bad Request", lines).await);
        assert_eq!(
            (failed.kind, failed.error.as_str()),
            (FailureKind::Permanent, "answered 400 Bad Request"),
            "{label:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_whose_length_is_not_clear_is_a_failure() {
    for lines in ["content-length: 3\r\n", "content-length: x\r\n", "content-length: -1\r\n"] {
        let (failed, _) = failure(answer("200 OK", lines).await);
        assert_eq!(failed.kind, FailureKind::Transient, "{lines}");
    }
    success(answer("200 OK", "content-length: 2\r\n").await);
    let (failed, _) = failure(answer("200 OK", &"x-a: 1\r\n".repeat(600)).await);
    assert!(failed.error.contains("at most 512 header lines"), "{}", failed.error);
}

#[tokio::test]
async fn an_invalid_answer_is_explained() {
    async fn error_for(answer: &str) -> String {
        let (failed, _) = failure(Trial::http(answering(answer).await).run(&runner(script_settings())).await);
        failed.error
    }
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\nX-A: a\0b\r\n\r\n", "NUL byte or a lone carriage return"),
        ("HTTP/1.1 200 OK\r\nX-A: a\rb\r\n\r\n", "NUL byte or a lone carriage return"),
        ("HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", "Content-Length of the answer"),
        ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}", "Content-Length of the answer"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            "Content-Length of the answer",
        ),
        ("HTTP/1.1  200 OK\r\n\r\n", "the status line of the answer"),
        ("HTTP/1.1 20 OK\r\n\r\n", "the status line of the answer"),
        ("HTTP/1.2 200 OK\r\n\r\n", "does not begin with HTTP/1.1"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "does not begin with HTTP/1.1"),
    ] {
        let error = error_for(answer).await;
        assert!(error.contains(expected), "{answer:?}: {error}");
        assert_eq!(error.contains("speaks TLS"), expected.contains("begin"), "{answer:?}: {error}");
    }
    // Permanent, as for a body that is too large: a retry would get an answer of the same size.
    let (failed, _) = failure(answer("400 Bad Request", &"x-a: 1\r\n".repeat(600)).await);
    assert_eq!(failed.kind, FailureKind::Permanent, "{}", failed.error);
}
