//! When a rule applies.

use leno_model::snapshot::{KeyMatch, Match, Name, ValueMatch};

use crate::messages::core::{MatchPattern, StringMatcher};
use crate::messages::route::{
    HeaderMatchSpecifier, HeaderMatcher, QueryMatchSpecifier, QueryParameterMatcher, RouteMatch,
};
use crate::translate::path::{match_from, match_to, regex, regex_of};
use crate::translate::{Dialect, TranslateError, unusable};

pub(super) fn when_to(when: &Match, dialect: Dialect) -> RouteMatch {
    let method = when.method.as_ref().filter(|_| dialect != Dialect::Grpc);
    let method = method.map(|method| header_to(":method", MatchPattern::Exact(method.to_string())));
    let headers = when.headers.iter().map(|header| header_to(&header.name, pattern_to(&header.value)));
    let query = when.query.iter().map(|query| QueryParameterMatcher {
        name: query.name.to_string(),
        query_parameter_match_specifier: Some(QueryMatchSpecifier::String(matcher(pattern_to(&query.value)))),
    });
    RouteMatch {
        path_specifier: Some(match_to(&when.path, dialect)),
        headers: method.into_iter().chain(headers).collect(),
        query_parameters: query.collect(),
        ..RouteMatch::default()
    }
}

pub(super) fn when_from(message: RouteMatch) -> Result<Match, TranslateError> {
    if message.runtime_fraction.is_some() {
        return Err(unusable("match.runtime_fraction", "leno splits by weighted clusters"));
    }
    let path = match_from(message.path_specifier, message.case_sensitive.unwrap_or(true))?;
    let mut when = Match { path, ..Match::default() };
    for header in message.headers {
        let name = header.name.clone();
        let value = header_from(header).map_err(|error| error.within(&format!("match.headers[{name}]")))?;
        match value {
            ValueMatch::Exact(method) if name == ":method" && when.method.is_none() => when.method = Some(method),
            value => when.headers.push(KeyMatch { name: name.into(), value }),
        }
    }
    for query in message.query_parameters {
        let value = match query.query_parameter_match_specifier {
            Some(QueryMatchSpecifier::String(matcher)) => value_from(matcher)?,
            Some(QueryMatchSpecifier::Present(true)) | None => ValueMatch::Regex(".*".into()),
            Some(QueryMatchSpecifier::Present(false)) => return Err(absent(&query.name)),
        };
        when.query.push(KeyMatch { name: query.name.into(), value });
    }
    Ok(when)
}

/// A condition on a field of its own.
pub(in crate::translate) fn header_when(header: HeaderMatcher) -> Result<(Name, ValueMatch), TranslateError> {
    Ok((header.name.as_str().into(), header_from(header)?))
}

fn absent(name: &str) -> TranslateError {
    unusable("match", format!("{name:?} must be absent or different: leno matches what is there"))
}

fn header_to(name: &str, pattern: MatchPattern) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::String(matcher(pattern))),
        invert_match: false,
    }
}

fn header_from(header: HeaderMatcher) -> Result<ValueMatch, TranslateError> {
    if header.invert_match {
        return Err(absent(&header.name));
    }
    Ok(match header.header_match_specifier {
        Some(HeaderMatchSpecifier::String(matcher)) => value_from(matcher)?,
        Some(HeaderMatchSpecifier::Exact(text)) => ValueMatch::Exact(text.into()),
        Some(HeaderMatchSpecifier::SafeRegex(regex)) => ValueMatch::Regex(regex.regex.into()),
        Some(HeaderMatchSpecifier::Present(true)) | None => ValueMatch::Regex(".*".into()),
        Some(HeaderMatchSpecifier::Present(false)) => return Err(absent(&header.name)),
    })
}

pub(super) fn matcher(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ignore_case: false }
}

fn pattern_to(value: &ValueMatch) -> MatchPattern {
    match value {
        ValueMatch::Exact(text) => MatchPattern::Exact(text.to_string()),
        ValueMatch::Regex(text) => MatchPattern::SafeRegex(regex(&**text)),
    }
}

fn value_from(matcher: StringMatcher) -> Result<ValueMatch, TranslateError> {
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) if !matcher.ignore_case => Ok(ValueMatch::Exact(text.as_str().into())),
        _ => Ok(ValueMatch::Regex(regex_of(&matcher)?.into())),
    }
}
