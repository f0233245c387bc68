//! The steps of the story. Each does something to the mesh, measures what visitors see meanwhile, and claims no more.

use std::time::Duration;

use leno_model::fault::Fault;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::load::Tally;
use super::{Demo, Failure};
use crate::client::with_query;
use crate::commands::Exit;
use crate::output::{count, list_at, text_at};
use crate::shop::{FLAKY_PERCENT, Order, Service};

/// The claim that ends the story.
pub const LAST_CLAIM: &str = "nothing-lost";

/// How long a change may take until every proxy has it in effect.
const IN_EFFECT_MAX: Duration = Duration::from_secs(15);
/// How long proxies may take until all are connected, at first and to a server that was started again.
const BACK_MAX: Duration = Duration::from_secs(20);
/// How long the first good page may take.
const FIRST_PAGE_MAX: Duration = Duration::from_secs(30);
/// How far a measured share may lie from its weight, in percentage points: more than three standard deviations of
/// independent choices over the shortest measurement.
const SHARE_TOLERANCE: f64 = 20.0;
/// The least share of pages with payment while payments answers 503 to every tenth request and retries are on.
const PAYMENT_PERCENT_MIN: f64 = 93.0;
/// The same just after payments failed altogether: retries of that time have used up the budget of the next seconds, so
/// that nine in ten are what can be counted on, less three standard deviations over the shortest measurement.
const MENDED_PERCENT_MIN: f64 = 82.0;
/// How often what must come is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a line is printed after the story.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Retries and a limit for payments, which is flaky.
const PAYMENTS_ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: payments, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: payments}]
  rules:
  - timeouts: {request: 2s}
    retry: {codes: [503], attempts: 3, backoff: 10ms}
    backendRefs: [{group: '', kind: Service, name: payments, port: 80}]
";

/// How visitors are divided between the versions of the cart.
fn cart_route(v2: u64) -> String {
    let v1 = 100 - v2;
    format!(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: cart, namespace: shop}}
spec:
  parentRefs: [{{group: '', kind: Service, name: cart}}]
  rules:
  - backendRefs:
    - {{group: leno.mesh, kind: ServiceVersion, name: cart@v1, port: 80, weight: {v1}}}
    - {{group: leno.mesh, kind: ServiceVersion, name: cart@v2, port: 80, weight: {v2}}}
"
    )
}

impl Demo {
    /// Everything up, and the first page.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        self.tell.step(1, "A mesh: a server, a shop of seven services, a proxy beside each program")?;
        self.mesh.start_server().await?;
        self.tell.note(&format!("the server answers at http://{}", self.mesh.http()), json!({}))?;
        self.mesh.start_shop().await?;
        let routes = [("cart.yaml", cart_route(0)), ("payments.yaml", PAYMENTS_ROUTE.to_owned())];
        self.apply("the shop", &routes).await?;
        let first = tokio::time::timeout(FIRST_PAGE_MAX, self.load.warm_up()).await;
        self.load.start();
        let (programs, proxies) = (self.mesh.programs(), self.mesh.proxies());
        let text = format!("{programs} programs, {proxies} proxies, visitors at a steady rate");
        self.tell.note(&text, json!({"programs": programs, "proxies": proxies}))?;
        self.show_dashboard("dashboard, by a link that works once").await?;

        let up_to_date = self.up_to_date().await?;
        let instances = self.state().await?.instances.len();
        let held = first.is_ok() && up_to_date == proxies && instances == programs;
        let page = if first.is_ok() { "" } else { ", but no good page was seen" };
        let measured = format!("{instances} of {programs} programs, {up_to_date} of {proxies} proxies{page}");
        self.claim("up", "every program is registered, and every proxy has in effect what it needs", held, measured)?;
        let before = self.mesh.order(Service::Payments, Order::Fail(FLAKY_PERCENT)).await?;
        let tally = self.load.measure(self.pace * 2).await;
        let refused = self.mesh.order(Service::Payments, Order::Fail(FLAKY_PERCENT)).await? - before;
        let held = refused > 0 && tally.failures == 0 && tally.payment_percent() >= PAYMENT_PERCENT_MIN;
        let text = "payments answers 503 to every tenth request, and retries hide it";
        let payment = tally.payment_percent();
        let measured = format!("{refused} times 503, {payment:.1} % of pages with payment; {}", tally.words());
        self.claim("retried", text, held, measured)
    }

    /// The cart's visitors go from v1 to both to v2.
    pub(super) async fn canary(&mut self) -> Result<(), Failure> {
        self.tell.step(2, "A canary: the cart's v2 gets no visitors, then half of them, then all")?;
        let tally = self.load.measure(self.pace).await;
        self.claim_share("canary-0", 0, &tally)?;
        for (id, v2) in [("canary-50", 50), ("canary-100", 100)] {
            self.apply(&format!("cart: {v2} % to v2"), &[("cart.yaml", cart_route(v2))]).await?;
            let tally = self.load.measure(self.pace * 2).await;
            self.claim_share(id, v2, &tally)?;
        }
        Ok(())
    }

    /// Payments fails altogether; the page is still there.
    pub(super) async fn failing_service(&mut self) -> Result<(), Failure> {
        self.tell.step(3, "A service fails: payments answers 503 to everything")?;
        self.mesh.order(Service::Payments, Order::Fail(100)).await?;
        let tally = self.load.measure(self.pace * 2).await;
        let is_degraded = tally.requests > 0 && tally.later == tally.requests - tally.failures;
        let held = tally.failures == 0 && is_degraded;
        let measured = format!(
            "{:.1} % of pages answered, {} of {} with payment later; {}",
            tally.success_percent(),
            tally.later,
            tally.requests,
            tally.words()
        );
        self.claim("survives", "its callers go on without it: every page is answered", held, measured)?;
        self.mesh.order(Service::Payments, Order::Fail(FLAKY_PERCENT)).await?;
        let tally = self.load.measure(self.pace).await;
        let held = tally.failures == 0 && tally.payment_percent() >= MENDED_PERCENT_MIN;
        let measured = format!("{:.1} % of pages with payment, {}", tally.payment_percent(), tally.words());
        self.claim("mended", "payments is well again, and pages have it at once", held, measured)
    }

    /// A resource with mistakes changes nothing.
    pub(super) async fn refused_resource(&mut self) -> Result<(), Failure> {
        self.tell.step(4, "A faulty resource: refused whole, with the place and the fix")?;
        let before = self.state().await?;
        let faulty = cart_route(30).replacen("weight: 30", "weigth: 30", 1);
        let body = json!({"files": [
            {"name": "cart.yaml", "text": faulty},
            {"name": "payments.yaml", "text": PAYMENTS_ROUTE.replace("attempts: 3", "attempts: 1")},
        ]});
        let asked = self.mesh.api(move |client| client.post("/api/v1/resources", &body)).await;
        let faults = match &asked {
            Err(refused) => refused.faults.clone(),
            Ok(_) => Vec::new(),
        };
        for fault in &faults {
            let data = serde_json::to_value(fault).unwrap_or_default();
            self.tell.note(&words_of(fault), json!({"fault": data}))?;
        }
        let is_told = faults.iter().any(|fault| {
            (&*fault.file, fault.line) == ("cart.yaml", 9) && fault.column > 0 && fault.fix.contains("weight")
        });
        let is_refused = asked.is_err() && is_told;
        let measured = if is_refused { count(faults.len(), "fault") } else { format!("{asked:?}") };
        self.claim("refused", "the fault is named with file, line, column and fix", is_refused, measured)?;
        let tally = self.load.measure(self.pace).await;
        let is_same = self.state().await?.resources == before.resources;
        let held = is_same && tally.versions[0] == 0 && tally.versions[1] > 0 && tally.failures == 0;
        let share = tally.v2_percent();
        let measured = format!("revision {} stays, {share:.0} % at v2; {}", before.revision(), tally.words());
        self.claim("unchanged", "nothing of the faulty set was put in force", held, measured)
    }

    /// The server dies and comes back.
    pub(super) async fn killed_server(&mut self) -> Result<(), Failure> {
        self.tell.step(5, "The control plane is killed, and traffic goes on")?;
        let before = self.state().await?;
        let killed = self.mesh.kill_server().await?;
        self.tell.note(&format!("the server, process {killed}, is killed with SIGKILL"), json!({"killed": killed}))?;
        let tally = self.load.measure(self.pace * 2).await;
        let held = tally.requests > 0 && tally.failures == 0;
        self.claim("without-server", "without a server no request fails", held, tally.words())?;

        let load = self.load.clone();
        let (tally, back) = load.measure_during(self.bring_back()).await;
        let after = back?;
        self.show_dashboard("sessions ended with the server; dashboard, by a new link").await?;
        let proxies = self.mesh.proxies();
        let held = tally.failures == 0 && after.proxies == proxies;
        let words = tally.words();
        let measured = format!("{} of {proxies} proxies back after {:.1} s; {words}", after.proxies, after.seconds);
        self.claim("back", "the server comes back, its proxies too, and no request fails", held, measured)?;
        let tally = self.load.measure(self.pace).await;
        let now = self.state().await?;
        let is_same = now.resources == before.resources && now.instances == before.instances;
        let held = is_same && tally.versions[0] == 0 && tally.failures == 0;
        let (revision, instances) = (now.revision(), now.instances.len());
        let measured = format!("revision {revision}, {instances} instances; {:.0} % at v2", tally.v2_percent());
        let measured = if is_same { measured } else { format!("{measured}; {}", before.lost(&now)) };
        self.claim(LAST_CLAIM, "no resource, instance or weight is lost", held, measured)
    }

    /// Traffic, and a line now and then, until the time is over.
    pub(super) async fn go_on(&mut self) -> Result<(), Failure> {
        let is_over = |until: Option<Instant>| until.is_some_and(|until| until <= Instant::now());
        if is_over(self.until) {
            return Ok(());
        }
        let end = if self.until.is_some() { "until the time is over" } else { "until Ctrl-C" };
        self.tell.step(6, &format!("The story is told; traffic goes on {end}"))?;
        while !is_over(self.until) {
            let left = self.until.map_or(LINE_EVERY, |until| until.saturating_duration_since(Instant::now()));
            let tally = self.load.measure(left.min(LINE_EVERY)).await;
            let data = json!({"requests": tally.requests, "failures": tally.failures});
            self.tell.note(&tally.words(), data)?;
        }
        Ok(())
    }

    /// Asks for a link that signs a browser in, and says it.
    async fn show_dashboard(&self, text: &str) -> Result<(), Failure> {
        let link = self.mesh.api(|client| client.post("/api/v1/login-link", &json!({}))).await?;
        let url = text_at(&link, "/url");
        self.tell.note(&format!("{text}:\n{url}"), json!({"dashboard": url}))
    }

    /// Applies files through the API and waits until every proxy that it concerns has it in effect.
    async fn apply(&mut self, summary: &str, files: &[(&str, String)]) -> Result<(), Failure> {
        let files: Vec<Value> = files.iter().map(|(name, text)| json!({"name": name, "text": text})).collect();
        let path = with_query("/api/v1/resources", &[("summary", Some(summary.to_owned()))]);
        let began = Instant::now();
        let progress = self.mesh.api(move |client| {
            let applied = client.post(&path, &json!({ "files": files }))?;
            let timeout = format!("{}ms", IN_EFFECT_MAX.as_millis());
            let revision = Some(text_at(&applied, "/snapshot"));
            let path = with_query("/api/v1/status/wait", &[("revision", revision), ("timeout", Some(timeout))]);
            client.get_slow(&path, IN_EFFECT_MAX)
        });
        let progress = progress.await?;
        let seconds = began.elapsed().as_secs_f64();
        let (in_effect, subscribed) = (text_at(&progress, "/inEffect"), text_at(&progress, "/subscribed"));
        if !list_at(&progress, "/refused").is_empty() || !list_at(&progress, "/pending").is_empty() {
            return Err(Failure::new(
                Exit::No,
                format!("{summary} is not in effect after {seconds:.1} s: {progress}"),
                "",
            ));
        }
        let how = if subscribed == "0" {
            format!("in effect after {seconds:.1} s: no proxy uses it yet")
        } else {
            format!("in effect on {in_effect} of {subscribed} proxies after {seconds:.1} s")
        };
        self.tell
            .note(&format!("{summary}: {how}"), json!({"applied": summary, "progress": progress, "after": seconds}))
    }

    /// Starts the server again and waits until every proxy is back, or for so long.
    async fn bring_back(&mut self) -> Result<Back, Failure> {
        let began = Instant::now();
        self.mesh.start_server().await?;
        let proxies = self.up_to_date().await?;
        Ok(Back { proxies, seconds: began.elapsed().as_secs_f64() })
    }

    /// Waits, but not for ever, until every proxy is connected and has everything in effect; how many have.
    async fn up_to_date(&self) -> Result<usize, Failure> {
        let began = Instant::now();
        loop {
            let status = self.mesh.get("/api/v1/status").await?;
            let in_effect =
                list_at(&status, "/proxies").iter().filter(|proxy| proxy["inEffect"] == json!(true)).count();
            if in_effect >= self.mesh.proxies() || began.elapsed() >= BACK_MAX {
                return Ok(in_effect);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// What the server keeps.
    async fn state(&self) -> Result<State, Failure> {
        let mut resources = self.mesh.get("/api/v1/resources").await?;
        // What stands in a resource stays; what is observed of it may change.
        for item in resources["items"].as_array_mut().into_iter().flatten() {
            if let Some(item) = item.as_object_mut() {
                item.remove("status");
            }
        }
        let mut instances = Vec::new();
        let services = self.mesh.api(|client| {
            Service::ALL
                .into_iter()
                .map(|service| client.get(&format!("/api/v1/services/shop/{}", service.name())))
                .collect::<Result<Vec<_>, _>>()
        });
        for service in services.await? {
            let ids = list_at(&service, "/instances").iter();
            instances.extend(ids.map(instance_of));
        }
        instances.sort();
        Ok(State { resources, instances })
    }

    fn claim_share(&mut self, id: &'static str, v2: u64, tally: &Tally) -> Result<(), Failure> {
        let share = tally.v2_percent();
        let is_near = match v2 {
            0 => tally.versions[1] == 0 && tally.versions[0] > 0,
            100 => tally.versions[0] == 0 && tally.versions[1] > 0,
            _ => (share - v2 as f64).abs() <= SHARE_TOLERANCE,
        };
        let text = format!("{v2} % of visitors meet the cart's v2, and nobody notices");
        let measured = format!("{share:.1} %; {}", tally.words());
        self.claim(id, &text, is_near && tally.failures == 0, measured)
    }
}

/// How the proxies came back.
struct Back {
    proxies: usize,
    seconds: f64,
}

/// What must not be lost.
#[derive(Debug)]
struct State {
    resources: Value,
    /// Service, id, version and addresses.
    instances: Vec<String>,
}

// === impl State ===

impl State {
    fn revision(&self) -> String {
        text_at(&self.resources, "/revision")
    }

    /// What is here and not there.
    fn lost(&self, now: &State) -> String {
        let resources = if self.resources == now.resources { "resources are the same" } else { "resources differ" };
        let missing: Vec<&String> = self.instances.iter().filter(|was| !now.instances.contains(was)).collect();
        format!("{resources}; {} instances are not as they were: {missing:?}", missing.len())
    }
}

/// What of an instance stays the same while it lives.
fn instance_of(instance: &Value) -> String {
    let fields = ["service", "id", "version", "address", "ports", "proxyAddress", "status", "routable", "weight"];
    fields.map(|field| instance[field].to_string()).join(" ")
}

/// A fault as the command line shows it.
fn words_of(fault: &Fault) -> String {
    let Fault { file, line, column, path, message, fix, .. } = fault;
    format!("{file}:{line}:{column}: {path}: {message}\nfix: {fix}")
}
