//! What a case says must happen, compared with what did.

use std::collections::BTreeMap;

use leno_route::host::bare_host;
use serde_json::Value;

use crate::ask::Answer;
use crate::echo::Arrival;

/// Shares of copies are compared within so many standard deviations: about one run in a million is outside by chance.
const DEVIATIONS: f64 = 5.0;

/// How a request was sent.
pub(crate) struct Sent<'a> {
    pub(crate) asked: &'a Value,
    pub(crate) times: u64,
    pub(crate) authority: &'a str,
    /// The namespace of services that are named without one.
    pub(crate) namespace: &'a str,
}

impl Sent<'_> {
    /// What is wrong with one answer.
    pub(crate) fn answer_faults(&self, answer: &Answer) -> Vec<String> {
        let mut faults = Vec::new();
        if self.asked["grpc"].is_string() {
            let code = self.asked["code"].as_u64().unwrap_or(0);
            let holds = answer.status == 200 && answer.code == Some(code);
            faults.extend((!holds).then(|| format!("{} with code {:?}, not {code}", answer.status, answer.code)));
        } else {
            let statuses = self.statuses();
            let holds = statuses.contains(&u64::from(answer.status));
            faults.extend((!holds).then(|| format!("the status is {}, not {statuses:?}", answer.status)));
        }
        let told = &self.asked["answer"];
        for (name, wanted) in told["headers"].as_object().into_iter().flatten() {
            faults.extend(differs(&answer.fields, name, |value| value == wanted.as_str().unwrap(), wanted));
        }
        for (name, wanted) in told["oneOf"].as_object().into_iter().flatten() {
            let one = |value: &str| list(wanted).iter().any(|one| packed(one.as_str().unwrap()) == packed(value));
            faults.extend(differs(&answer.fields, name, one, wanted));
        }
        for name in list(&told["absent"]).iter().filter_map(Value::as_str) {
            let there = answer.fields.get(&name.to_lowercase());
            faults.extend(there.map(|value| format!("the answer has {name}: {value}")));
        }
        faults.extend(self.location_fault(answer));
        faults
    }

    /// What a service of bytes or datagrams answers; empty where it is nobody's.
    pub(crate) fn line(&self, to: &str, length: usize) -> String {
        if to == "nobody" {
            return String::new();
        }
        let passed = self.asked["tls"].as_str().unwrap_or("none");
        format!("{} {} {length}\n", self.full(to), self.asked["seen"]["tls"].as_str().unwrap_or(passed))
    }

    /// What is wrong with what the services saw, copies apart.
    pub(crate) fn arrival_faults(&self, arrivals: &[Arrival]) -> Vec<String> {
        let copied: Vec<String> = list(&self.asked["mirrors"]).iter().map(|mirror| self.mirror_of(mirror)).collect();
        let straight: Vec<&Arrival> = arrivals.iter().filter(|arrival| !copied.contains(&arrival.service)).collect();
        let mut faults = self.target_faults(&straight);
        if let Some(shares) = self.asked["shares"].as_object() {
            let within = self.asked["within"].as_f64().unwrap();
            for (name, wanted) in shares {
                let (name, wanted) = (self.full(name), wanted.as_f64().unwrap());
                let share =
                    straight.iter().filter(|arrival| arrival.service == name).count() as f64 / straight.len() as f64;
                let off = (share - wanted).abs() > within || (wanted == 0.0 && share > 0.0);
                faults.extend(off.then(|| format!("{name} gets {share}, not {wanted}")));
            }
        }
        if let Some(arrival) = straight.last() {
            faults.extend(self.seen_faults(arrival));
        }
        faults
    }

    /// What is wrong with the copies, which come when they come.
    pub(crate) fn copy_faults(&self, arrivals: &[Arrival]) -> Vec<String> {
        let mut faults = Vec::new();
        for mirror in list(&self.asked["mirrors"]) {
            let to = self.mirror_of(mirror);
            let came = arrivals.iter().filter(|arrival| arrival.service == to).count() as f64;
            let share = mirror["percent"].as_f64().map_or(1.0, |percent| percent / 100.0);
            let times = self.times as f64;
            let off = DEVIATIONS * (times * share * (1.0 - share)).sqrt();
            let wrong = (came - times * share).abs() > off;
            faults.extend(wrong.then(|| format!("{to} gets {came} copies of {times}, not {}±{off:.0}", times * share)));
        }
        faults
    }

    fn statuses(&self) -> Vec<u64> {
        match &self.asked["status"] {
            Value::Array(all) => all.iter().filter_map(Value::as_u64).collect(),
            status => vec![status.as_u64().unwrap_or(200)],
        }
    }

    fn target_faults(&self, straight: &[&Arrival]) -> Vec<String> {
        let services: Vec<&str> = straight.iter().map(|arrival| &*arrival.service).collect();
        let answers_itself = self.asked["acts"].is_null()
            && (self.asked["code"].is_u64() || self.statuses().iter().all(|status| *status >= 300));
        match self.asked["to"].as_str() {
            Some("nobody") if services.is_empty() => Vec::new(),
            None if answers_itself && services.is_empty() => Vec::new(),
            None if !answers_itself && !services.is_empty() => Vec::new(),
            Some(to) if !services.is_empty() && services.iter().all(|service| *service == self.full(to)) => Vec::new(),
            to => vec![format!("it goes to {services:?}, not to {}", to.unwrap_or("nobody"))],
        }
    }

    fn seen_faults(&self, arrival: &Arrival) -> Vec<String> {
        let mut faults = Vec::new();
        let name = arrival.service.strip_prefix(&format!("{}/", self.namespace)).unwrap_or(&arrival.service);
        let by_service = &self.asked["seenBy"][name];
        let seen = if by_service.is_null() { &self.asked["seen"] } else { by_service };
        if self.asked["grpc"].is_null() {
            let path = seen["path"].as_str().or(self.asked["path"].as_str()).unwrap_or("/");
            faults.extend((arrival.path != path).then(|| format!("the service sees {}, not {path}", arrival.path)));
            let method = self.asked["method"].as_str().unwrap_or("GET");
            let other = arrival.method != method;
            faults.extend(other.then(|| format!("the service sees {}, not {method}", arrival.method)));
        }
        let sent_host = self.asked["host"].as_str().filter(|_| seen.is_null());
        let host = seen["host"].as_str().or(sent_host);
        let other = host.filter(|host| arrival.host != *host);
        faults.extend(other.map(|host| format!("the service sees host {}, not {host}", arrival.host)));
        let other = seen["tls"].as_str().filter(|tls| arrival.tls != *tls);
        faults.extend(other.map(|tls| format!("the service is asked for {} in TLS, not for {tls}", arrival.tls)));
        let absent: Vec<String> =
            list(&seen["absent"]).iter().map(|name| name.as_str().unwrap().to_lowercase()).collect();
        for name in &absent {
            let there = arrival.fields.get(name);
            faults.extend(there.map(|value| format!("the service sees {name}: {value}")));
        }
        let mut wanted: BTreeMap<String, &Value> = BTreeMap::new();
        for fields in [&self.asked["headers"], &seen["headers"]] {
            wanted.extend(fields.as_object().into_iter().flatten().map(|(name, value)| (name.to_lowercase(), value)));
        }
        for (name, wanted) in wanted.iter().filter(|(name, _)| !absent.contains(name)) {
            let text = wanted.as_str().map_or_else(|| wanted.to_string(), str::to_owned);
            faults.extend(differs(&arrival.fields, name, |value| packed(value) == packed(&text), wanted));
        }
        faults
    }

    fn location_fault(&self, answer: &Answer) -> Option<String> {
        let wanted = &self.asked["location"];
        wanted.as_object()?;
        let scheme =
            wanted["scheme"].as_str().unwrap_or(if self.asked["https"].is_string() { "https" } else { "http" });
        let host = wanted["host"].as_str().unwrap_or(bare_host(self.authority));
        let port = wanted["port"].as_u64().map_or_else(String::new, |port| format!(":{port}"));
        let path = wanted["path"].as_str().or(self.asked["path"].as_str()).unwrap_or("/");
        let wanted = format!("{scheme}://{host}{port}{path}");
        let location = answer.fields.get("location");
        (location != Some(&wanted)).then(|| format!("the location is {location:?}, not {wanted}"))
    }

    fn mirror_of(&self, mirror: &Value) -> String {
        self.full(mirror.as_str().or(mirror["to"].as_str()).unwrap())
    }

    pub(crate) fn full(&self, name: &str) -> String {
        if name.contains('/') { name.to_owned() } else { format!("{}/{name}", self.namespace) }
    }
}

fn differs(
    fields: &BTreeMap<String, String>,
    name: &str,
    holds: impl Fn(&str) -> bool,
    wanted: &Value,
) -> Option<String> {
    let value = fields.get(&name.to_lowercase());
    let holds = value.is_some_and(|value| holds(value));
    (!holds).then(|| format!("{name} is {value:?}, not {wanted}"))
}

fn packed(value: &str) -> String {
    value.chars().filter(|letter| *letter != ' ').collect()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
