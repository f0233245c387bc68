//! What an endpoint reports of its load with an answer (ORCA): read by who balances by it, and kept with the endpoint.
//!
//! ```text
//! endpoint-load-metrics: TEXT cpu_utilization=0.3, rps_fractional=120, eps=0.5     head or trailers
//! endpoint-load-metrics: JSON {"cpu_utilization": 0.3, "rps_fractional": 120}
//! endpoint-load-metrics: BIN <base64>          endpoint-load-metrics-bin: <base64>     xds.data.orca.v3.OrcaLoadReport
//! ```
//!
//! The application says it, whatever it is written in; libraries of gRPC do in trailers. What it says of more than one line, of
//! names that are not known, or of what weights do not look at, is passed over. What cannot be read, and what says nothing, is
//! counted and changes nothing. A report is its instance's word on itself: one that lies gets ten times the mean at most.
//!
//! Passed on to who called, as Envoy does, but at a gateway: outside nobody need know how busy an instance is.
//! Hot path: no locks held; JSON and base64 allocate, text does not.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use leno_http::Fields;
use leno_model::snapshot::{BalancePolicy, LoadReports};
use leno_telemetry::metric::{Exposition, Kind};
use leno_traffic::reported::Report;
use leno_xds::orca::OrcaLoadReport;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Endpoint};

/// Of any kind.
const FIELD: &str = "endpoint-load-metrics";
/// As gRPC has it.
const BINARY_FIELD: &str = "endpoint-load-metrics-bin";

/// No report is longer.
const LENGTH_MAX: usize = 4096;

/// With padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reports that came.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    read: AtomicU64,
    ignored: AtomicU64,
}

/// It cannot be read.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable;

/// By the names of the fields of `OrcaLoadReport`; those that weights look at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    #[serde(alias = "cpuUtilization")]
    cpu_utilization: f64,
    #[serde(alias = "applicationUtilization")]
    application_utilization: f64,
    #[serde(alias = "rpsFractional")]
    rps_fractional: f64,
    eps: f64,
}

// === impl Cluster ===

impl Cluster {
    /// Whether its endpoints are chosen by what they report.
    pub(crate) fn heeds_reports(&self) -> bool {
        match self.spec.balance {
            BalancePolicy::WeightedRoundRobin => true,
            // What is written is the same for all of them, what is left of it is not.
            BalancePolicy::Expression => {
                self.endpoints.iter().any(|of| of.program.as_ref().is_some_and(|of| of.heeds_reports()))
            }
            _ => false,
        }
    }

    /// Takes in what an endpoint says of itself in the head or the trailers of an answer.
    pub(crate) fn heed_report(&self, endpoint: usize, fields: &Fields, now: Duration) {
        let (Some(report), Some(endpoint)) = (read(fields), self.endpoints.get(endpoint)) else { return };
        let is_heeded = report.is_ok_and(|report| endpoint.state.load.report(now, report));
        let counts = self.resilience.load_reports();
        let count = if is_heeded { &counts.read } else { &counts.ignored };
        count.fetch_add(1, Relaxed);
    }
}

/// Takes the report off what leaves the mesh.
pub(crate) fn strip(fields: &mut Fields) {
    // Both names begin so.
    let begins = |name: &[u8]| name.get(..FIELD.len()).is_some_and(|own| own.eq_ignore_ascii_case(FIELD.as_bytes()));
    if fields.iter().any(|(name, _)| begins(name)) {
        fields.remove(FIELD);
        fields.remove(BINARY_FIELD);
    }
}

/// What an endpoint of a cluster reported, as the admin listener shows it.
pub(crate) fn describe(cluster: &Cluster, endpoint: &Endpoint, now: Duration) -> Option<Value> {
    let terms = cluster.spec.balancing.load_reports.unwrap_or(LoadReports::DEFAULT);
    let last = cluster.heeds_reports().then(|| endpoint.state.load.reported(now, &terms)).flatten()?;
    let report = last.report;
    Some(json!({
        "utilization": report.utilization, "requestsPerSecond": report.rate, "errorsPerSecond": report.errors,
        "ageMs": last.age.as_millis() as u64, "weight": last.weight,
    }))
}

/// Shows how many reports came from the endpoints of these clusters.
pub(crate) fn write<'c>(out: &mut Exposition, clusters: impl Iterator<Item = (&'c str, &'c Cluster)>) {
    let name = "leno_load_reports_total";
    let help = "Reports of load that came from endpoints that are chosen by them, heeded or ignored.";
    out.family(name, help, Kind::Counter);
    for (cluster, of) in clusters.filter(|(_, of)| of.heeds_reports()) {
        let counts = of.resilience.load_reports();
        for (result, count) in [("heeded", &counts.read), ("ignored", &counts.ignored)] {
            out.sample(name, &[("cluster", cluster), ("result", result)], count.load(Relaxed) as f64);
        }
    }
}

/// The report in these fields, if there is one.
fn read(fields: &Fields) -> Option<Result<Report, Unreadable>> {
    let binary = fields.get(BINARY_FIELD).map(of_base64);
    binary.or_else(|| fields.get(FIELD).map(of_value))
}

fn of_value(value: &[u8]) -> Result<Report, Unreadable> {
    if value.len() > LENGTH_MAX {
        return Err(Unreadable);
    }
    match value.split_at_checked(5) {
        Some((b"TEXT ", text)) => of_text(text),
        Some((b"JSON ", text)) => Ok(serde_json::from_slice::<Named>(text).map_err(|_| Unreadable)?.report()),
        _ => value.strip_prefix(b"BIN ").map_or(Err(Unreadable), of_base64),
    }
}

/// `name=value` with commas between; older ones have a colon.
fn of_text(text: &[u8]) -> Result<Report, Unreadable> {
    let text = std::str::from_utf8(text).map_err(|_| Unreadable)?;
    let mut named = Named::default();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, value) = entry.split_once(['=', ':']).ok_or(Unreadable)?;
        let place = match name.trim() {
            "cpu_utilization" => &mut named.cpu_utilization,
            "application_utilization" => &mut named.application_utilization,
            "rps_fractional" => &mut named.rps_fractional,
            "eps" => &mut named.eps,
            _ => continue,
        };
        *place = value.trim().parse().map_err(|_| Unreadable)?;
    }
    Ok(named.report())
}

fn of_base64(value: &[u8]) -> Result<Report, Unreadable> {
    if value.len() > LENGTH_MAX {
        return Err(Unreadable);
    }
    let message = BASE64.decode(value).map_err(|_| Unreadable)?;
    let message = OrcaLoadReport::read(&message).ok_or(Unreadable)?;
    // The whole number is what older ones say.
    let rate = if message.rps_fractional > 0.0 { message.rps_fractional } else { message.rps as f64 };
    Ok(Named {
        cpu_utilization: message.cpu_utilization,
        application_utilization: message.application_utilization,
        rps_fractional: rate,
        eps: message.eps,
    }
    .report())
}

// === impl Named ===

impl Named {
    /// How busy the application says it is comes before how busy its processors are.
    fn report(&self) -> Report {
        let utilization =
            if self.application_utilization > 0.0 { self.application_utilization } else { self.cpu_utilization };
        Report { rate: self.rps_fractional as f32, errors: self.eps as f32, utilization: utilization as f32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Report = Report { rate: 120.0, errors: 0.5, utilization: 0.25 };

    fn of(value: &str) -> Result<Report, Unreadable> {
        read(&Fields::from_iter([(FIELD, value)])).unwrap()
    }

    /// `{cpu_utilization: 0.25, rps_fractional: 120, eps: 0.5}` and a metric of another name.
    const BYTES: &str = "CQAAAAAAANA/MQAAAAAAAF5AOQAAAAAAAOA/QgwKAWERAAAAAAAA8D8=";

    #[test]
    fn a_report_is_read_in_each_of_its_forms() {
        let forms = [
            "TEXT cpu_utilization=0.25,rps_fractional=120,eps=0.5",
            "TEXT  rps_fractional = 120 , eps: 0.5, cpu_utilization:0.25, named_metrics.a=7, mem_utilization=1,",
            r#"JSON {"cpu_utilization": 0.25, "rps_fractional": 120, "eps": 0.5, "named_metrics": {"a": 7}}"#,
            r#"JSON {"cpuUtilization": 0.25, "rpsFractional": 120.0, "eps": 5e-1}"#,
            &format!("BIN {BYTES}"),
        ];
        for form in forms {
            assert_eq!(of(form), Ok(WANTED), "{form}");
        }
        let binary = |value: &str| read(&Fields::from_iter([(BINARY_FIELD, value)])).unwrap();
        assert_eq!((binary(BYTES), binary(BYTES.trim_end_matches('='))), (Ok(WANTED), Ok(WANTED)));
        assert_eq!(read(&Fields::new()), None);
    }

    #[test]
    fn what_the_application_says_comes_before_its_processors() {
        let said = of("TEXT cpu_utilization=0.9,application_utilization=0.25,rps_fractional=120,eps=0.5");
        assert_eq!(said, Ok(WANTED));
    }

    #[test]
    fn what_is_no_report_is_not_read() {
        let long = format!("TEXT {}eps=1", "a=1,".repeat(2_000));
        let bad = [
            "",
            "TEXT",
            "TEXT cpu_utilization",
            "TEXT eps=",
            "TEXT eps=one",
            "cpu_utilization=0.3",
            "text eps=1",
            "JSON {",
            "JSON []]",
            r#"JSON {"eps": "one"}"#,
            "BIN ",
            "BIN =",
            "BIN A",
            "BIN AAAAA",
            "BIN \u{e4}",
            "BIN CQAA",
            "XML <a/>",
            &long,
        ];
        for bad in bad {
            // Nothing at all says nothing.
            assert!(of(bad).is_err() || of(bad) == Ok(Report::default()), "{bad:?}: {:?}", of(bad));
            assert!(!of(bad).is_ok_and(|report| report.is_usable()), "{bad:?}");
        }
    }

    #[test]
    fn hostile_bytes_do_no_harm() {
        let json = br#"JSON {"cpu_utilization": 0.25, "eps": 1e999, "a": [[[{}]]]}"#;
        for whole in [&b"TEXT cpu_utilization=0.25,rps_fractional=120,eps=0.5"[..], json, BYTES.as_bytes()] {
            for at in 0..whole.len() {
                for byte in [0, b'9', b'=', b',', 0x80, 0xff] {
                    let (mut broken, shorter) = (whole.to_vec(), &whole[..at]);
                    broken[at] = byte;
                    for bytes in [&broken, shorter] {
                        let (_, _) = (of_value(bytes), of_base64(bytes));
                    }
                }
            }
        }
    }
}
