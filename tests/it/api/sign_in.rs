//! Signing in and out.

use std::time::Duration;

use crate::support::{
    World,
    console::{Api, Keys, PASSWORD, answer, user},
};

async fn try_in(api: &Api, name: &str, password: &str) -> crate::support::console::Answer {
    let form = [("name", name), ("password", password), ("next", "/handlers?text=a")];
    answer(api.request("POST", "/sign-in").header("sec-fetch-site", "same-origin").form(&form)).await
}

async fn is_in(api: &Api, cookie: &str) -> bool {
    answer(api.request("GET", "/handlers").header("cookie", cookie)).await.status == 200
}

#[blocking_test]
async fn a_session_begins_with_a_password_and_ends_with_signing_out() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    for (name, password) in [("ann", "wrong"), ("nobody", PASSWORD), ("", ""), ("ann", "")] {
        let refused = try_in(&api, name, password).await;
        assert_eq!((refused.status, refused.header("set-cookie")), (401, ""), "{name}");
        assert!(refused.text.contains("The name or the password is wrong"), "{}", refused.text);
    }
    let signed_in = try_in(&api, "ann", PASSWORD).await;
    assert_eq!((signed_in.status, signed_in.header("location")), (303, "/handlers?text=a"));
    let cookie = signed_in.header("set-cookie");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Path=/"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    assert!(is_in(&api, &cookie).await);
    let token = cookie.split_once('=').unwrap().1;
    let stored = world.rows("SELECT row_to_json(s)::text FROM console_sessions s", &[]).await;
    assert!(stored.iter().all(|row| !row.get::<_, String>(0).contains(token)), "only a hash is stored");

    let form = [("name", "ann"), ("password", PASSWORD), ("next", "//evil.example/")];
    let elsewhere = api.request("POST", "/sign-in").header("sec-fetch-site", "same-origin").form(&form);
    assert_eq!(answer(elsewhere).await.header("location"), "/");
    let form_with = |name, next| [("name", name), ("password", PASSWORD), ("next", next)];
    for next in ["/\0", "/\u{7f}", "/\u{85}"] {
        let form = form_with("ann", next);
        let odd =
            answer(api.request("POST", "/sign-in").header("sec-fetch-site", "same-origin").form(&form)).await;
        assert_eq!((odd.status, odd.header("location")), (303, "/"), "{next:?}");
    }
    // What is typed there by mistake may be a password.
    let typed = "correct horse ".repeat(600);
    let form = form_with(&typed, "/");
    let odd =
        answer(api.request("POST", "/sign-in").header("sec-fetch-site", "same-origin").form(&form)).await;
    assert_eq!(odd.status, 401);
    assert!(!api.process.log().contains("correct horse"), "the name of no user is not logged");
    let cross = api.request("POST", "/sign-in").header("sec-fetch-site", "cross-site").form(&form);
    assert_eq!(answer(cross).await.status, 403, "another site signs nobody in");

    let csrf = api.csrf(&cookie).await;
    let live =
        api.request("GET", "/executions/live").header("cookie", &cookie).send().await.expect("a stream");
    assert_eq!(live.status(), 200);
    let out =
        api.request("POST", "/sign-out").header("cookie", &cookie).header("sec-fetch-site", "same-origin");
    let out = answer(out.form(&[("csrf", csrf)])).await;
    assert_eq!((out.status, out.header("location")), (303, "/sign-in"));
    assert!(out.header("set-cookie").contains("Max-Age=0"), "{}", out.header("set-cookie"));
    assert!(!is_in(&api, &cookie).await, "what somebody copied is of no use any more");
    let ended = tokio::time::timeout(Duration::from_secs(10), live.bytes()).await;
    ended.expect("a live page ends with its session").expect("it ends well");
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn a_session_outlives_the_process_but_not_its_user() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    let (ann, _) = api.sign_in("ann").await;
    let (vic, _) = api.sign_in("vic").await;
    let Api { process, keys, .. } = api;
    let mut process = process;
    assert!(process.terminate().await.success());

    // Ann stays; vic has another password since; and the tokens are gone.
    let users = world.command().args(["config", "--output", "json"]).output().expect("the program");
    assert!(!String::from_utf8_lossy(&users.stdout).contains("$argon2id"), "hashes are not shown");
    let configured = world.variable("PROVISIOND_CONSOLE__USERS");
    let (first, _) = configured.split_once("}, ").expect("two users");
    let other = user(&world, "vic", "viewer", "another password");
    let users = format!("{first}}}, {other}]");
    world.set("console.users", &users);
    world.set("console.tokens", "[]");
    let api = Api::with(&world, keys).await;
    assert!(is_in(&api, &ann).await && !is_in(&api, &vic).await);
    assert_eq!(answer(api.api("GET", "/handlers")).await.status, 401);

    world.rows("UPDATE console_sessions SET expires_at = now()", &[]).await;
    assert!(!is_in(&api, &ann).await, "it was not used for too long");
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn guessing_passwords_is_stopped_and_others_can_sign_in() {
    let mut world = World::new().await;
    world.set("console.trusted_proxies", "127.0.0.0/8");
    let api = Api::start(&mut world).await;
    let from = |address: &'static str, password: &'static str| {
        let form = [("name", "ann"), ("password", password)];
        let request = api.request("POST", "/sign-in").header("sec-fetch-site", "same-origin");
        answer(request.header("x-forwarded-for", address).form(&form))
    };
    let guesses = futures_util::future::join_all((0..10).map(|_| from("203.0.113.7", "guess"))).await;
    assert!(guesses.iter().all(|guess| guess.status == 401));
    let stopped = from("203.0.113.7", PASSWORD).await;
    assert_eq!(stopped.status, 429, "also with the right one: {}", stopped.text);
    assert!(stopped.text.contains("wait 5 minutes"), "{}", stopped.text);
    assert!(
        (1..=301).contains(&stopped.header("retry-after").parse::<u32>().unwrap_or_default()),
        "{stopped:?}"
    );
    assert_eq!(from("203.0.113.8", PASSWORD).await.status, 303, "its owner comes from elsewhere");
    assert_eq!(
        from("203.0.113.7, 203.0.113.9", PASSWORD).await.status,
        303,
        "what a client writes itself is not believed"
    );
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn without_users_a_link_lets_one_in_once() {
    let world = World::new().await;
    let keys = Keys { operator: String::new(), viewer: String::new() };
    let api = Api::of(world.spawn(&["--roles", "console"]), keys).await;
    let (log, url) = (api.process.log(), &api.url);
    let (_, link) = log.split_once("sign in once with ").expect("a link");
    let link = link.split('"').next().unwrap();
    let token = link.strip_prefix(&format!("{url}/sign-in/once?token=")).expect("its form");

    let sign_in = answer(api.request("GET", "/sign-in")).await;
    assert!(sign_in.status == 200 && !sign_in.text.contains("type=\"password\""), "{}", sign_in.text);
    let opened = answer(api.request("GET", &link[url.len()..])).await;
    assert!(opened.status == 200 && opened.text.contains(token), "opening it uses nothing up");
    let once = |token: &str| {
        let form = [("token", token.to_owned())];
        answer(api.request("POST", "/sign-in/once").header("sec-fetch-site", "same-origin").form(&form))
    };
    assert_eq!(once("wrong").await.status, 401);
    let signed_in = once(token).await;
    assert_eq!(signed_in.status, 303, "{}", signed_in.text);
    let cookie = signed_in.header("set-cookie").split(';').next().unwrap().to_owned();
    assert!(is_in(&api, &cookie).await);
    assert_eq!(once(token).await.status, 401, "once");

    let mut open = world.command();
    open.args(["serve"]).env("PROVISIOND_CONSOLE__LISTEN", "0.0.0.0:0");
    let refused = open.output().expect("the program");
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && stderr.contains("console.listen") && stderr.contains("loopback"),
        "{stderr}"
    );
    let mut world = world;
    world.keep(api.process);
    world.end().await;
}
