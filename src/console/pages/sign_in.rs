//! The pages for who is not signed in yet. What they send is handled in `access::sign_in`.

use askama::Template;

use super::{Answer, Frame, html, with_status};
use crate::console::problem::Problem;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn<'a> {
    frame: Frame,
    /// Without users nobody can sign in here; the page says how.
    has_users: bool,
    name: &'a str,
    next: &'a str,
    /// Why the last try was refused.
    problem: Option<&'a Problem>,
}

#[derive(Template)]
#[template(path = "sign_in_once.html")]
struct Once<'a> {
    frame: Frame,
    token: &'a str,
    problem: Option<&'a Problem>,
}

pub fn form(has_users: bool, name: &str, next: &str, problem: Option<&Problem>) -> Answer {
    let frame = Frame::of("Sign in", None);
    told(problem, html(&SignIn { frame, has_users, name, next, problem }))
}

pub fn once(token: &str, problem: Option<&Problem>) -> Answer {
    let frame = Frame::of("Sign in", None);
    told(problem, html(&Once { frame, token, problem }))
}

/// With the status of the problem, and what else programs go by: when to try again.
fn told(problem: Option<&Problem>, answer: Answer) -> Answer {
    let Some(problem) = problem else { return answer };
    with_status(problem.status(), answer).map(|mut response| {
        problem.add_headers(&mut response);
        response
    })
}
