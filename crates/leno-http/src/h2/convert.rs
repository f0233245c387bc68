//! Between our messages and those of the `http` crate, which `h2` speaks.
//!
//! Towards HTTP/2: names in lower case, fields of one connection dropped, `te` only as `trailers`, `Host` as
//! `:authority`. From HTTP/2: cookie crumbs joined, one block of bytes for target and fields.

use bytes::BytesMut;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, Uri, uri};

use crate::body::BodyLength;
use crate::error::{Error, Result};
use crate::fields::{Entry, Fields, Known};
use crate::h1::head::parse_length;
use crate::limits::Malformed;
use crate::message::{Method, RequestHead, ResponseHead, Scheme, TargetForm, Text, Version, valid_authority};

/// A request as received.
pub(crate) fn request_head(request: http::request::Parts) -> Result<RequestHead, Malformed> {
    let method = Method::parse(request.method.as_str().as_bytes()).ok_or(Malformed::StartLine)?;
    let host = single_host(&request.headers)?;
    let authority = match (request.uri.authority().map(|a| a.as_str().as_bytes()), host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => return Err(Malformed::HostTwice),
        (Some(authority), _) => authority,
        (None, Some(host)) => host,
        (None, None) => return Err(Malformed::HostMissing),
    };
    if !valid_authority(authority) {
        return Err(Malformed::Host);
    }
    let path = request.uri.path_and_query().map_or("", |p| p.as_str());
    let form = match (&method, path) {
        (Method::Connect, _) => TargetForm::Authority,
        (_, "*") => TargetForm::Asterisk,
        _ => TargetForm::Origin,
    };
    if form == TargetForm::Origin && !path.starts_with('/') || path == "*" && method != Method::Options {
        return Err(Malformed::Target);
    }
    let mut block = BytesMut::with_capacity(authority.len() + path.len() + size(&request.headers));
    block.extend_from_slice(authority);
    block.extend_from_slice(path.as_bytes());
    let (at, path_at) = (authority.len(), authority.len() + path.len());
    let list = write_fields(&mut block, &request.headers, |known| !matches!(known, Known::Host | Known::Expect))?;
    let block = block.freeze();
    Ok(RequestHead {
        method,
        scheme: match request.uri.scheme_str() {
            Some("https") => Scheme::Https,
            _ => Scheme::Http,
        },
        authority: Some(Text::from_utf8(block.slice(..at)).ok_or(Malformed::Host)?),
        path: Text::from_utf8(block.slice(at..path_at)).ok_or(Malformed::Target)?,
        version: Version::Http2,
        fields: Fields::from_block(list, block),
        form,
    })
}

/// A response as received.
pub(crate) fn response_head(response: http::response::Parts) -> Result<ResponseHead, Malformed> {
    let mut block = BytesMut::with_capacity(size(&response.headers));
    let list = write_fields(&mut block, &response.headers, |_| true)?;
    Ok(ResponseHead {
        status: response.status.as_u16(),
        reason: Text::default(),
        version: Version::Http2,
        fields: Fields::from_block(list, block.freeze()),
    })
}

/// Trailers as received.
pub(crate) fn trailers(map: &HeaderMap) -> Fields {
    let mut block = BytesMut::with_capacity(size(map));
    let list = write_fields(&mut block, map, |known| known == Known::Other).unwrap_or_default();
    let mut fields = Fields::from_block(list, block.freeze());
    fields.strip_trailers();
    fields
}

/// The length that the fields announce.
pub(crate) fn announced_length(fields: &Fields) -> Option<u64> {
    fields.get_known(Known::ContentLength).and_then(|e| parse_length(fields.value(e)).ok())
}

fn single_host(map: &HeaderMap) -> Result<Option<&[u8]>, Malformed> {
    let mut hosts = map.get_all(http::header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(Malformed::HostTwice),
        (host, None) => Ok(host.map(HeaderValue::as_bytes)),
    }
}

fn size(map: &HeaderMap) -> usize {
    map.iter().map(|(name, value)| name.as_str().len() + value.len() + 2).sum()
}

fn write_fields(block: &mut BytesMut, map: &HeaderMap, keep: impl Fn(Known) -> bool) -> Result<Vec<Entry>, Malformed> {
    let mut list = Vec::with_capacity(map.len());
    let mut lengths = 0;
    let mut cookies = false;
    for (name, value) in map {
        let known = Known::of(name.as_str().as_bytes());
        match known {
            Known::Cookie if cookies => continue,
            Known::Cookie => cookies = true,
            Known::ContentLength => {
                lengths += 1;
                parse_length(value.as_bytes())?;
                if lengths > 1 {
                    return Err(Malformed::ContentLength);
                }
            }
            _ => {}
        }
        if !keep(known) {
            continue;
        }
        let at = block.len();
        block.extend_from_slice(name.as_str().as_bytes());
        let value_at = block.len();
        if known == Known::Cookie {
            for (index, crumb) in map.get_all(name).iter().enumerate() {
                if index > 0 {
                    block.extend_from_slice(b"; ");
                }
                block.extend_from_slice(crumb.as_bytes());
            }
        } else {
            block.extend_from_slice(value.as_bytes().trim_ascii());
        }
        list.push(Entry::in_block(at..value_at, value_at..block.len(), known));
    }
    Ok(list)
}

/// A request to be sent.
pub(crate) fn to_request(head: &RequestHead, length: BodyLength) -> Result<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() = http::Method::from_bytes(head.method.as_str().as_bytes())
        .map_err(|_| Error::misuse("the method cannot be sent over HTTP/2"))?;
    *request.version_mut() = http::Version::HTTP_2;
    let mut parts = uri::Parts::default();
    let authority = match &head.authority {
        Some(authority) => authority.clone().into_bytes(),
        None => head.fields.get_known(Known::Host).map(|e| head.fields.value_shared(e)).unwrap_or_default(),
    };
    parts.authority = Some(
        uri::Authority::from_maybe_shared(authority)
            .map_err(|_| Error::misuse("the authority cannot be sent over HTTP/2"))?,
    );
    if head.method != Method::Connect {
        parts.scheme = Some(match head.scheme {
            Scheme::Http => uri::Scheme::HTTP,
            Scheme::Https => uri::Scheme::HTTPS,
        });
        let path = head.path.clone().into_bytes();
        parts.path_and_query = Some(
            uri::PathAndQuery::from_maybe_shared(path)
                .map_err(|_| Error::misuse("the target cannot be sent over HTTP/2"))?,
        );
    }
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Error::misuse("the target cannot be sent over HTTP/2"))?;
    *request.headers_mut() = to_map(&head.fields, known_length(length, false));
    Ok(request)
}

/// A response to be sent. With `keep_length`, the `Content-Length` of the fields stands (HEAD, 304).
pub(crate) fn to_response(head: &ResponseHead, length: BodyLength, keep_length: bool) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(head.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let length = if matches!(head.status, 100..200 | 204) { Length::Drop } else { known_length(length, keep_length) };
    *response.headers_mut() = to_map(&head.fields, length);
    response
}

/// Trailers to be sent.
pub(crate) fn to_trailers(fields: &Fields) -> HeaderMap {
    to_map(fields, Length::Drop)
}

/// What becomes of `Content-Length`.
#[derive(Clone, Copy)]
enum Length {
    Keep,
    Drop,
    Set(u64),
}

fn known_length(length: BodyLength, keep: bool) -> Length {
    match length {
        _ if keep => Length::Keep,
        BodyLength::Known(length) => Length::Set(length),
        BodyLength::Empty | BodyLength::Unknown => Length::Drop,
    }
}

fn to_map(fields: &Fields, length: Length) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len() + 1);
    for e in fields.entries() {
        match e.known {
            Known::Other | Known::Cookie | Known::Expect => {}
            Known::ContentLength if matches!(length, Length::Keep) => {}
            Known::Te if fields.value(e).eq_ignore_ascii_case(b"trailers") => {}
            _ => continue,
        }
        let value = HeaderValue::from_maybe_shared(fields.value_shared(e));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(fields.name(e)), value) {
            map.append(name, value);
        }
    }
    if let Length::Set(length) = length {
        map.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_are_joined_and_names_lowered() {
        let request = Request::get("http://cart:80/a?b")
            .header("cookie", "a=1")
            .header("x-a", "1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        let head = request_head(request.into_parts().0).unwrap();
        assert_eq!((head.host(), &*head.path), ("cart:80", "/a?b"));
        assert_eq!(head.fields.get("cookie"), Some(&b"a=1; b=2"[..]));
        let mut head = RequestHead::new(Method::Get, "cart", "/");
        for (name, value) in [("X-Up", "1"), ("Connection", "close"), ("TE", "trailers"), ("Keep-Alive", "1")] {
            head.fields.append(name, value);
        }
        let map = to_request(&head, BodyLength::Known(3)).unwrap().into_parts().0.headers;
        let pairs: Vec<_> = map.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(pairs, [("x-up", "1"), ("te", "trailers"), ("content-length", "3")]);
    }

    #[test]
    fn authority_and_host_must_agree() {
        let request = |host| Request::get("http://a.test/").header("host", host).body(()).unwrap().into_parts().0;
        assert!(request_head(request("A.test")).is_ok());
        assert_eq!(request_head(request("b.test")).unwrap_err(), Malformed::HostTwice);
    }
}
