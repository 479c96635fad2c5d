//! The console behind nginx, in its default configuration but for where it leads.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use serde_json::json;

use crate::support::{
    Endpoint, Process, World,
    console::{Answer, Api, PASSWORD, answer},
    eventually, free_port,
};

/// nginx; dropped, it ends.
struct Nginx {
    _process: Process,
    dir: tempfile::TempDir,
    port: u16,
}

impl Nginx {
    /// None where there is no nginx.
    async fn start(locations: &str) -> Option<Self> {
        let Some(program) = std::env::var("PROVISIOND_TEST_NGINX").ok().filter(|path| !path.is_empty())
        else {
            println!("skipped: there is no nginx");
            return None;
        };
        let (dir, port) = (tempfile::tempdir().expect("a directory"), free_port());
        let dir_path = dir.path().display();
        let user = if nix::unistd::Uid::effective().is_root() { "user root;" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {dir_path}/{name};\n"))
            .concat();
        let text = format!(
            "{user}\ndaemon off;\nmaster_process off;\npid {dir_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\
             server {{\nlisten 127.0.0.1:{port};\n{}\n}}\n}}\n",
            locations.replace("{dir}", &dir_path.to_string())
        );
        let (settings, log) = (dir.path().join("nginx.conf"), dir.path().join("log"));
        std::fs::write(&settings, text).expect("written");
        std::fs::write(dir.path().join("users"), "gate:{PLAIN}keeper\n").expect("written");
        let child = std::process::Command::new(program)
            .args(["-c".as_ref(), settings.as_os_str(), "-e".as_ref(), "stderr".as_ref()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("nginx");
        let process = Process::new(child, log);
        eventually("nginx listens", || async { std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() })
            .await;
        Some(Self { _process: process, dir, port })
    }
}

const FOLLOWED: [&str; 2] = ["href", "src"];
const OTHERS: [&str; 3] = ["action", "formaction", "data-tail"];

/// Where a page leads, by these attributes.
fn links(page: &str, attributes: &[&str]) -> BTreeSet<String> {
    attributes
        .iter()
        .flat_map(|name| {
            let opened = format!(" {name}=\"");
            let links = page.split(&opened).skip(1).filter_map(|rest| rest.split('"').next());
            links.map(|link| link.replace("&#38;", "&")).collect::<Vec<_>>()
        })
        .collect()
}

async fn page(api: &Api, cookie: &str, path: &str) -> Answer {
    answer(api.request("GET", path).header("cookie", cookie).header("accept", "text/html")).await
}

/// From the overview on, whatever page a page leads to: all of them are below the path, and there.
async fn every_link_leads_below(api: &Api, cookie: &str, origin: &str) {
    let (mut seen, mut next) = (BTreeSet::new(), vec!["/".to_owned()]);
    while let Some(path) = next.pop() {
        if !seen.insert(path.clone()) || seen.len() > 80 {
            continue;
        }
        let shown = page(api, cookie, &path).await;
        assert!(shown.status == 200 || shown.status == 303, "{path}: {} {}", shown.status, shown.text);
        for link in links(&shown.text, &[&FOLLOWED[..], &OTHERS].concat()) {
            if link.starts_with("http") || link.starts_with('#') || link.starts_with('?') || link.is_empty() {
                continue;
            }
            let below = link.strip_prefix("/ops").unwrap_or_else(|| panic!("{path} leads to {link}"));
            assert!(below.starts_with('/'), "{path} leads to {link}");
            let others = ["/export", "/live", "/sign-out", "/openapi.json"];
            if links(&shown.text, &FOLLOWED).contains(&link)
                && !others.iter().any(|other| below.contains(other))
            {
                next.push(below.split('#').next().expect("a part").to_owned());
            }
        }
    }
    assert!(seen.len() > 20, "{seen:?}");
    assert!(
        seen.iter().any(|path| path.starts_with("/assets/") && path.ends_with("/console.css")),
        "{seen:?}"
    );
    let document = answer(api.api("GET", "/openapi.json")).await.json();
    assert_eq!(document["servers"][0]["url"], "/ops/api/v1", "{origin}");
}

#[blocking_test]
async fn the_console_works_below_a_path_that_is_taken_off_or_handed_on() {
    let mut world = World::new().await;
    let back = free_port();
    world.set("console.listen", &format!("127.0.0.1:{back}"));
    let taken_off = format!("location /ops/ {{ proxy_pass http://127.0.0.1:{back}/; }}");
    let handed_on = format!("location /ops {{ proxy_pass http://127.0.0.1:{back}; }}");
    let (Some(one), Some(other)) = (Nginx::start(&taken_off).await, Nginx::start(&handed_on).await) else {
        return world.abandon().await;
    };
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    for (nginx, called) in [(&one, 1), (&other, 3)] {
        let origin = format!("http://127.0.0.1:{}", nginx.port);
        world.set("console.public_url", &format!("{origin}/ops/"));
        let mut api = Api::start(&mut world).await;
        assert_eq!(api.url, format!("{origin}/ops"), "what the log says is what a browser is given");
        let (cookie, _) = api.sign_in("ann").await;
        let refused = answer(api.request("GET", "/handlers").header("accept", "text/html")).await;
        assert_eq!((refused.status, refused.header("location")), (303, "/ops/sign-in?next=%2Fhandlers"));
        let redirected = page(&api, &cookie, "/sign-in?next=%2Fhandlers").await;
        assert_eq!((redirected.status, redirected.header("location")), (303, "/ops/handlers"));
        let made = api.post("/events", &json!({"event": "clients.create", "object_id": called})).await;
        assert!(made.header("location").starts_with("/ops/api/v1/executions"), "{made:?}");
        endpoint.wait_for(called).await;
        world.wait_for_executions(called, &[]).await;
        every_link_leads_below(&api, &cookie, &origin).await;
        // Live rows arrive although nginx buffers what it is not told not to.
        let shown = page(&api, &cookie, "/executions").await.text;
        let tail =
            links(&shown, &OTHERS).into_iter().find(|link| link.contains("/live")).expect("a live page");
        let tail = tail.strip_prefix("/ops").expect("below the path");
        let live = api.request("GET", tail).header("cookie", &cookie).header("accept", "text/event-stream");
        let mut live = live.send().await.expect("an answer");
        let rows = async {
            let mut text = String::new();
            while !text.contains("event: rows") {
                let chunk = live.chunk().await.expect("more").expect("not its end");
                text.push_str(&String::from_utf8_lossy(&chunk));
            }
            text
        };
        world.publish("clients.create", None, 100, &json!({})).await;
        let rows =
            tokio::time::timeout(Duration::from_secs(30), rows).await.expect("rows arrive while it goes on");
        assert!(rows.contains("href=\"/ops/executions/") && !rows.contains("href=\"/executions"), "{rows}");
        endpoint.wait_for(called + 1).await;
        api.process.terminate().await;
    }
    world.end().await;
    drop((one, other));
}

#[blocking_test]
async fn a_login_of_the_proxy_does_not_beat_the_session() {
    let mut world = World::new().await;
    let back = free_port();
    world.set("console.listen", &format!("127.0.0.1:{back}"));
    let gate = format!(
        "location / {{ auth_basic gate; auth_basic_user_file {{dir}}/users; proxy_pass http://127.0.0.1:{back}; }}"
    );
    let Some(nginx) = Nginx::start(&gate).await else { return world.abandon().await };
    let api = Api::start(&mut world).await;
    let (cookie, csrf) = api.sign_in("ann").await;
    let through = |method: &str, path: &str| {
        let method: reqwest::Method = method.parse().expect("a method");
        let url = format!("http://127.0.0.1:{}{path}", nginx.port);
        api.client.request(method, url).basic_auth("gate", Some("keeper")).header("accept", "text/html")
    };
    assert_eq!(
        answer(api.client.get(format!("http://127.0.0.1:{}/", nginx.port))).await.status,
        401,
        "the gate"
    );
    let shown = answer(through("GET", "/handlers").header("cookie", &cookie)).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    let stranger = answer(through("GET", "/handlers")).await;
    assert_eq!((stranger.status, stranger.header("location")), (303, "/sign-in?next=%2Fhandlers"));
    let form = [("name", "vic"), ("password", PASSWORD)];
    let signed_in = through("POST", "/sign-in").header("sec-fetch-site", "same-origin").form(&form);
    assert_eq!(answer(signed_in).await.status, 303);
    // What is changed with a cookie needs its token still, whatever else is sent along.
    let change = || through("POST", "/sign-out").header("cookie", &cookie);
    assert_eq!(answer(change()).await.status, 403);
    let own = change().header("sec-fetch-site", "same-origin").header("x-csrf-token", &csrf);
    assert_eq!(answer(own).await.status, 303);
    // A bearer token that is none of ours, as a proxy may add one, neither.
    let (cookie, _) = api.sign_in("ann").await;
    let bearer = api.request("GET", "/handlers").header("cookie", &cookie).bearer_auth("of-the-proxy");
    assert_eq!(answer(bearer).await.status, 200);
    let bearer = answer(api.request("GET", "/api/v1/handlers").bearer_auth("of-nobody")).await;
    assert_eq!(bearer.status, 401);
    assert!(bearer.text.contains("not one of console.tokens"), "{}", bearer.text);
    assert!(nginx.dir.path().exists());
    api.end().await;
    world.end().await;
}
