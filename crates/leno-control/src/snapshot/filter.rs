//! Filters as written to filters as carried out.

use std::time::Duration;

use leno_model::resource::filter as written;
use leno_model::resource::number::Port;
use leno_model::snapshot::{Cors, HeaderChange, Mirror, Name, PathRewrite, Redirect, Rewrite, RouteFilter};

use super::{Context, View, resolve};

const CORS_MAX_AGE: Duration = Duration::from_secs(5);
const REDIRECT_STATUS: u16 = 302;

/// The filters of an HTTPRoute in their order, without redirects, which are actions.
pub(super) fn http(view: &View<'_>, context: &Context<'_>, filters: &[written::HttpFilter]) -> Vec<RouteFilter> {
    let mut made = Vec::with_capacity(filters.len());
    for filter in filters {
        made.extend(filter.request_header_modifier.as_ref().map(|m| RouteFilter::RequestHeaders(headers(m))));
        made.extend(filter.response_header_modifier.as_ref().map(|m| RouteFilter::ResponseHeaders(headers(m))));
        made.extend(filter.request_mirror.as_ref().and_then(|m| mirror(view, context, m)));
        made.extend(filter.url_rewrite.as_ref().map(rewrite));
        made.extend(filter.cors.as_ref().map(cors));
    }
    made
}

/// The filters of a GRPCRoute in their order.
pub(super) fn grpc(view: &View<'_>, context: &Context<'_>, filters: &[written::GrpcFilter]) -> Vec<RouteFilter> {
    let mut made = Vec::with_capacity(filters.len());
    for filter in filters {
        made.extend(filter.request_header_modifier.as_ref().map(|m| RouteFilter::RequestHeaders(headers(m))));
        made.extend(filter.response_header_modifier.as_ref().map(|m| RouteFilter::ResponseHeaders(headers(m))));
        made.extend(filter.request_mirror.as_ref().and_then(|m| mirror(view, context, m)));
    }
    made
}

/// The redirect among the filters of a rule.
pub(super) fn redirect(filters: &[written::HttpFilter]) -> Option<Redirect> {
    let redirect = filters.iter().find_map(|filter| filter.request_redirect.as_ref())?;
    let scheme = redirect.scheme.map(|scheme| match scheme {
        written::Scheme::Http => "http".into(),
        written::Scheme::Https => "https".into(),
    });
    Some(Redirect {
        scheme,
        hostname: redirect.hostname.as_deref().map(Into::into),
        path: redirect.path.as_ref().and_then(path),
        port: redirect.port.map(Port::get),
        status: redirect.status_code.unwrap_or(REDIRECT_STATUS),
    })
}

fn headers(modifier: &written::HeaderModifier) -> HeaderChange {
    let pair = |header: &written::Header| (Name::from(header.name.as_str()), Name::from(header.value.as_str()));
    HeaderChange {
        set: modifier.set.iter().map(pair).collect(),
        add: modifier.add.iter().map(pair).collect(),
        remove: modifier.remove.iter().map(|name| name.as_str().into()).collect(),
    }
}

/// A mirror that leads nowhere is left out: the request itself does not suffer for it.
fn mirror(view: &View<'_>, context: &Context<'_>, mirror: &written::RequestMirror) -> Option<RouteFilter> {
    let cluster = resolve(view, context, (&mirror.backend_ref).into()).ok()?;
    let (numerator, denominator) = match (&mirror.percent, &mirror.fraction) {
        (Some(percent), _) => (percent.get(), 100),
        (None, Some(fraction)) => (fraction.numerator, fraction.denominator.max(1)),
        (None, None) => (1, 1),
    };
    Some(RouteFilter::Mirror(Mirror { cluster, numerator, denominator }))
}

fn rewrite(rewrite: &written::UrlRewrite) -> RouteFilter {
    RouteFilter::Rewrite(Rewrite {
        hostname: rewrite.hostname.as_deref().map(Into::into),
        path: rewrite.path.as_ref().and_then(path),
    })
}

fn path(modifier: &written::PathModifier) -> Option<PathRewrite> {
    match modifier.r#type {
        written::PathModifierType::ReplaceFullPath => {
            modifier.replace_full_path.as_deref().map(|path| PathRewrite::Full(path.into()))
        }
        written::PathModifierType::ReplacePrefixMatch => {
            modifier.replace_prefix_match.as_deref().map(|path| PathRewrite::Prefix(path.into()))
        }
    }
}

fn cors(cors: &written::Cors) -> RouteFilter {
    let names = |list: &[String]| list.iter().map(|text| Name::from(text.as_str())).collect();
    RouteFilter::Cors(Cors {
        allow_origins: names(&cors.allow_origins),
        allow_methods: names(&cors.allow_methods),
        allow_headers: names(&cors.allow_headers),
        expose_headers: names(&cors.expose_headers),
        allow_credentials: cors.allow_credentials.unwrap_or(false),
        max_age: cors.max_age.map_or(CORS_MAX_AGE, |age| Duration::from_secs(u64::from(age.get()))),
    })
}
