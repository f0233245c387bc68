//! What happens to a request before its destination is asked: what may pass, the rule that matches, what it says.

use bytes::Bytes;
use leno_http::grpc::{Code, Status};
use leno_http::{Fields, Malformed, Method, ResponseHead, TargetForm, Text, UnderscoredNames, Upgrades, Version};
use leno_model::path::{EscapedSlashes, canonical};
use leno_model::snapshot::{Action, DirectReply, Redirect};
use leno_route::cors::CorsFields;
use leno_route::{FieldLookup, Matched, Redirected, RequestView, redirect_location, weighted};
use leno_telemetry::Flag;
use leno_telemetry::access::Direction;
use leno_telemetry::flag::REASON_FIELD;

use super::deadline::LEFT_FIELD;
use super::stand_in::FALLBACK_FIELD;
use super::{Exchange, forwarded};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::filter;
use crate::mirror;
use crate::overload::PRIORITY_FIELD;
use crate::payload::Payload;
use crate::table::{Destination, RuleRef, Target};
use crate::upstream;

/// More proxies than this on the way are a circle.
const HOPS_MAX: u32 = 16;

pub(super) enum Decided<'d> {
    Target(&'d Target),
    Redirect(&'d Redirect),
    Reply(&'d DirectReply),
}

impl Exchange<'_> {
    /// Who calls, as the caller's proxy says.
    pub(super) fn source(&self) -> Option<Text> {
        if self.direction != Direction::Inbound {
            return None;
        }
        self.head.fields.get_str(filter::SOURCE_FIELD).map(Text::from)
    }

    /// Takes away what belongs to the connection and what only leno may say.
    pub(super) fn admit(&mut self) -> Result<(), Failure> {
        let head = &mut self.head;
        // Taken from anybody: who forges it only has his own request refused, and a gateway may stand in the circle too.
        let hops: u32 = head.fields.get_str(filter::HOPS_FIELD).and_then(|hops| hops.parse().ok()).unwrap_or(0);
        if hops > HOPS_MAX {
            return Err(Failure::Loop(hops));
        }
        // HTTP/1.0 has no upgrades (RFC 9110, section 7.8).
        let upgrades = if head.version == Version::Http10 { Upgrades::Drop } else { Upgrades::Keep };
        head.fields.strip_hop_by_hop(upgrades).map_err(|error| Failure::BadRequest(error.to_string()))?;
        if head.form == TargetForm::Absolute {
            // An origin is asked with the path alone, or with an asterisk (RFC 9112, sections 3.2.1 and 3.2.4).
            head.form = if head.path.as_bytes() == b"*" { TargetForm::Asterisk } else { TargetForm::Origin };
        }
        if self.direction == Direction::Gateway {
            if head.method == Method::Connect {
                return Err(Failure::NoTunnel);
            }
            let trusted_hops = self.worker.shared.limits.trusted_hops;
            forwarded::write(head, self.downstream, trusted_hops);
            if trusted_hops == 0 {
                head.fields.remove(LEFT_FIELD);
            }
            // How much a request matters is not its client's to say.
            head.fields.remove(PRIORITY_FIELD);
        }
        filter::strip_own(&mut head.fields);
        if self.direction != Direction::Inbound {
            head.fields.append(filter::HOPS_FIELD, itoa::Buffer::new().format(hops + 1));
        }
        Ok(())
    }

    /// Leaves one spelling of the path, in which it is matched, logged and forwarded, and no two fields that a program
    /// may take for one.
    pub(super) fn read_in_one_way(&mut self) -> Result<(), Failure> {
        let (head, shared) = (&mut self.head, &self.worker.shared);
        let limits = &shared.limits;
        let refused = |what, why: String| {
            shared.strikes.count(what);
            Err(Failure::BadRequest(why))
        };
        let slashes = if limits.keep_escaped_slashes { EscapedSlashes::Keep } else { EscapedSlashes::Refuse };
        // CONNECT has no path, and that of OPTIONS may be an asterisk.
        if !matches!(head.path.as_bytes(), b"" | b"*") {
            match canonical(head.path.as_bytes(), slashes) {
                Ok(None) => {}
                Ok(Some(path)) => {
                    head.path = path.into();
                    self.record.path(&head.path);
                }
                Err(fault) => return refused(Malformed::Path, fault.to_string()),
            }
        }
        // Names of gRPC's metadata may have them, and its servers make no variables of them. From outside anybody may say
        // that he speaks gRPC.
        let is_metadata = self.is_grpc && self.direction != Direction::Gateway;
        if limits.underscored_names == UnderscoredNames::Keep || is_metadata || !head.fields.has_underscored_names() {
            return Ok(());
        }
        if limits.underscored_names == UnderscoredNames::Refuse {
            return refused(Malformed::Underscore, Malformed::Underscore.to_string());
        }
        head.fields.retain(|name, _| !name.contains(&b'_'));
        Ok(())
    }

    /// The rule that matches.
    pub(super) fn route<'d>(&self, destination: &'d Destination) -> Result<(RuleRef<'d>, Matched), Failure> {
        let head = &self.head;
        let no_route = || Failure::NoRoute(destination.listener.name.to_string());
        let routes = destination.http.as_ref().ok_or_else(no_route)?;
        let (path, query) = head.path_and_query();
        let view = RequestView {
            host: head.host(),
            method: head.method.as_str(),
            path,
            query: query.unwrap_or(""),
            fields: &Looked(&head.fields),
        };
        let matched = routes.router.route(&view).ok_or_else(no_route)?;
        Ok((routes.rule(matched.rule), matched))
    }

    /// What the rule does with this request.
    pub(super) fn decide<'d>(&self, rule: RuleRef<'d>) -> Result<Decided<'d>, Failure> {
        match &rule.rule.action {
            Action::Forward(_) => match rule.targets {
                [only] if only.weight > 0 => Ok(Decided::Target(only)),
                many => {
                    let drawn = || weighted::pick_by(many, |target| target.weight, self.worker.random_bits());
                    match self.bound_target(many).or_else(drawn) {
                        Some(at) => Ok(Decided::Target(&many[at])),
                        None => Err(Failure::Unresolved(rule.rule.origin.resource.to_string())),
                    }
                }
            },
            Action::Redirect(redirect) => Ok(Decided::Redirect(redirect)),
            Action::Reply(reply) => Ok(Decided::Reply(reply)),
            Action::Refuse { status, reason } => Err(Failure::Refused(*status, reason.to_string())),
        }
    }

    pub(super) fn location(&self, destination: &Destination, redirect: &Redirect, matched: Matched) -> String {
        let request = Redirected {
            scheme: self.head.scheme.as_str(),
            authority: self.head.host(),
            port: destination.listener.port,
            target: self.head.path.as_str(),
            prefix_len: matched.prefix_len,
        };
        redirect_location(redirect, &request)
    }

    pub(super) async fn answer_preflight(&mut self, fields: &CorsFields) -> Result<(), Failure> {
        let mut head = ResponseHead::new(204);
        filter::apply_cors(fields, &mut head);
        self.answer(head, Bytes::new(), None).await;
        Ok(())
    }

    pub(super) async fn answer_redirect(
        &mut self,
        rule: RuleRef<'_>,
        to: &Redirect,
        location: String,
    ) -> Result<(), Failure> {
        let mut head = ResponseHead::new(to.status).with("location", location);
        filter::change_response(&rule.rule.filters, &mut head);
        self.answer(head, Bytes::new(), None).await;
        Ok(())
    }

    /// Answers as the rule says. A call of gRPC hears the body as a message.
    pub(super) async fn answer_directly(
        &mut self,
        rule: RuleRef<'_>,
        with: &DirectReply,
        cors: Option<&CorsFields>,
    ) -> Result<(), Failure> {
        let flag = Flag::DirectReply;
        self.record.failed(flag, || format!("answered by {}", rule.rule.origin.resource));
        self.answer_with(rule, with, cors, flag.reason(), None).await;
        Ok(())
    }

    /// Answers with this for that reason; `stands_in` is what it is, where it stands in for another answer.
    pub(super) async fn answer_with(
        &mut self,
        rule: RuleRef<'_>,
        with: &DirectReply,
        cors: Option<&CorsFields>,
        reason: &str,
        stands_in: Option<&str>,
    ) {
        let code = Code::from_number(with.grpc_status);
        let mut head = match self.is_grpc {
            true => Status::new(code, with.body.trim_ascii_end().to_owned()).response(),
            false => ResponseHead::new(with.status),
        };
        head = head.with(REASON_FIELD, reason);
        if let Some(stands_in) = stands_in {
            head.fields.set(FALLBACK_FIELD, stands_in);
        }
        let mut body = Bytes::new();
        if !self.is_grpc && !with.body.is_empty() {
            head = head.with("content-type", &*with.content_type);
            body = Bytes::copy_from_slice(with.body.as_bytes());
        }
        for (name, value) in &with.fields {
            head.fields.set(name, &**value);
        }
        filter::change_response(&rule.rule.filters, &mut head);
        if let Some(cors) = cors {
            filter::apply_cors(cors, &mut head);
        }
        self.answer(head, body, self.is_grpc.then_some(code)).await;
    }

    /// Answers with this.
    pub(super) async fn answer(&mut self, head: ResponseHead, body: Bytes, grpc_status: Option<Code>) {
        self.record.status(head.status, grpc_status.map(|code| code as u8));
        let Some(reply) = self.reply.take() else { return };
        if let Err(error) = reply.respond(head, body).await {
            self.record.broken(&Failure::Downstream(error));
        }
    }

    /// Feeds the mirrors, and keeps the body for another try where there may be one.
    pub(super) fn prepare_payload(&mut self, rule: RuleRef<'_>, target: &Target, cluster: &Cluster) {
        let body = mirror::split(self.worker, rule.mirrors, &target.mirrors, &self.head, self.payload.take());
        self.payload = Payload::new(body, self.may_try_again(rule, cluster) || target.instead.is_some());
    }

    /// Whether a request may be sent more than once: the rule says so, somebody else may take what one did not, or an
    /// endpoint may refuse a stream.
    fn may_try_again(&self, rule: RuleRef<'_>, cluster: &Cluster) -> bool {
        let elsewhere = self.direction != Direction::Inbound && cluster.eligible() > 1;
        elsewhere || rule.rule.retry.is_some() || upstream::speaks_http2(cluster, self.head.version)
    }
}

pub(super) struct Looked<'a>(pub(super) &'a Fields);

impl FieldLookup for Looked<'_> {
    fn each_value<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        for (found, value) in self.0.iter() {
            if found.eq_ignore_ascii_case(name.as_bytes()) {
                visit(value);
            }
        }
    }
}
