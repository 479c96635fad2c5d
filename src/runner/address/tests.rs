//! Checks every row of the table in `docs/security.md`, and names whose addresses change.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;
use crate::config;

fn defaults() -> AddressRules {
    config::load(Some(Path::new("/dev/null")), std::iter::empty()).expect("defaults").config.http.rules
}

/// A lookup that returns the next entry of `answers` on each call, and the last entry from then on.
fn answering(answers: Vec<Vec<SocketAddr>>) -> Lookup {
    let (answers, calls) = (Arc::new(answers), Arc::new(AtomicUsize::new(0)));
    Arc::new(move |_| {
        let index = calls.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        let answer = answers[index].clone();
        Box::pin(async move {
            let unknown = || io::Error::other("Name or service not known");
            if answer.is_empty() { Err(unknown()) } else { Ok(answer) }
        })
    })
}

/// Parses `10.0.0.5 when saved, 169.254.169.254 when called`, or one list of addresses for both times.
fn answers(text: &str) -> Vec<Vec<SocketAddr>> {
    let addresses = |text: &str| -> Vec<SocketAddr> {
        let known = text.split(", ").filter(|text| *text != "nothing");
        known.map(|text| (text.parse::<IpAddr>().expect(text), 0).into()).collect()
    };
    match text.strip_suffix(" when called").and_then(|both| both.split_once(" when saved, ")) {
        Some((saved, called)) => vec![addresses(saved), addresses(called)],
        None => vec![addresses(text)],
    }
}

/// The outcome for a url, in the words of the table.
async fn outcome_of(typed: &str, leads_to: &str) -> String {
    let Ok(url) = typed.parse::<HttpTarget>() else { return "not a url".into() };
    let rule = |refused: AddressRefused| match refused {
        AddressRefused::Address(denied) | AddressRefused::Name { first: denied, .. } => denied.rule,
    };
    let names = leads_to.strip_prefix("name: ").map(answers);
    let is_name = names.is_some();
    let filter =
        AddressFilter::with_lookup(defaults(), answering(names.clone().unwrap_or_else(|| vec![vec![]])));
    if let Err(refused) = filter.check(&url).await {
        return format!("denied by {}", rule(refused));
    }
    let Some(Host::Domain(name)) = url.url().host() else {
        assert_eq!(url.url().host_str(), Some(host(leads_to).as_str()), "{typed}");
        return "called".into();
    };
    assert!(is_name, "{typed} is the name {name}");
    match filter.addresses(name).await {
        Ok(called) if Some(&called) == names.iter().flatten().last() => "called".into(),
        Ok(called) => {
            let called: Vec<_> = called.iter().map(|address| address.ip().to_string()).collect();
            format!("{} is called", called.join(", "))
        }
        Err(Unresolved::Refused(refused)) => format!("saved, then denied by {}", rule(refused)),
        Err(Unresolved::Unknown(error)) => error.to_string(),
    }
}

/// `address` as the host of a url is written.
fn host(address: &str) -> String {
    let url =
        if address.contains(':') { format!("http://[{address}]/") } else { format!("http://{address}/") };
    url::Url::parse(&url).expect("a url").host_str().expect("a host").to_owned()
}

#[tokio::test]
async fn every_form_of_an_address_is_judged_as_the_table_says() {
    let mut lines = 0;
    for line in include_str!("../../../docs/security.md").lines() {
        let cells: Vec<&str> = line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        let [typed, leads_to, outcome] = cells[..] else { continue };
        let Some(typed) = typed.strip_prefix('`').and_then(|typed| typed.strip_suffix('`')) else { continue };
        assert_eq!(outcome_of(typed, leads_to).await, outcome, "{typed}");
        if let Ok(denied) = leads_to.parse::<IpAddr>() {
            let url: HttpTarget = typed.parse().expect(typed);
            assert_eq!(url.url().host_str(), Some(host(&denied.to_string()).as_str()), "{typed}");
        }
        lines += 1;
    }
    assert!(lines >= 60, "only {lines} lines were found");
}

#[tokio::test]
async fn refusals_name_the_address_and_the_rule() {
    let refusal = async |typed: &str, addresses: &str| {
        let filter = AddressFilter::with_lookup(defaults(), answering(answers(addresses)));
        filter.check(&typed.parse().expect("a url")).await.expect_err("refused").to_string()
    };
    let rule = "169.254.0.0/16 (http.deny; http.allow can permit it)";
    assert_eq!(
        refusal("169.254.1.2", "nothing").await,
        format!("the address 169.254.1.2 is denied by {rule}")
    );
    assert_eq!(
        refusal("[::ffff:a9fe:102]", "nothing").await,
        format!("the address ::ffff:169.254.1.2, which leads to 169.254.1.2, is denied by {rule}")
    );
    assert_eq!(
        refusal("crm.example", "169.254.1.2").await,
        format!("the name crm.example resolves only to a denied address: 169.254.1.2 is denied by {rule}")
    );
    assert_eq!(
        refusal("crm.example", "169.254.1.2, fe80::1").await,
        format!("the name crm.example resolves only to denied addresses: 169.254.1.2 is denied by {rule}")
    );
}

#[tokio::test]
async fn what_the_system_resolves_is_judged() {
    let rules = AddressRules {
        deny: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        allow: vec![],
    };
    for typed in ["localhost:1", "http://LOCALHOST/"] {
        let refused = check_target(&rules, &typed.parse().expect("a url")).await.expect_err(typed);
        assert!(refused.to_string().starts_with("the name localhost"), "{refused}");
    }
    assert!(check_target(&rules, &"crm.invalid".parse().expect("a url")).await.is_ok());
}
