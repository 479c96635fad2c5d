//! The sign-in pages. `access::sign_in` handles their forms.

use askama::Template;

use super::{Answer, Frame, html, with_status};
use crate::console::problem::Problem;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn<'a> {
    frame: Frame,
    /// Without configured users there is no form, and the page explains how to add one.
    has_users: bool,
    name: &'a str,
    next: &'a str,
    /// The error of the last attempt to sign in.
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
    with_problem(problem, html(&SignIn { frame, has_users, name, next, problem }))
}

pub fn once(token: &str, problem: Option<&Problem>) -> Answer {
    let frame = Frame::of("Sign in", None);
    with_problem(problem, html(&Once { frame, token, problem }))
}

/// Sets the status and the headers of the problem, such as `Retry-After`.
fn with_problem(problem: Option<&Problem>, answer: Answer) -> Answer {
    let Some(problem) = problem else { return answer };
    with_status(problem.status(), answer).map(|mut response| {
        problem.add_headers(&mut response);
        response
    })
}
