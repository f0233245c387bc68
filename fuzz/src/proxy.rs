//! PROXY headers: what a proxy in front says before everything else.

use leno_net::proxy_protocol::{Fault, HEADER_MAX, Header, LINE_MAX, Read, Version, read, write};

/// Looks at what has come so far, longer and longer.
///
/// What was said of a beginning stays, so that no byte behind a header is taken for a part of it; no more is waited for than
/// a header may have; and what was read is the same once it was written anew, in either form.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let mut said = Read::NeedMore;
    let lengths = (0..bytes.len().min(600)).chain((600..bytes.len()).step_by(97)).chain([bytes.len()]);
    for length in lengths {
        let now = read(&bytes[..length]);
        if said != Read::NeedMore {
            assert_eq!(now, said, "something else at {length}");
        }
        if now == Read::NeedMore {
            let most = if bytes.first() == Some(&b'P') { LINE_MAX } else { HEADER_MAX };
            assert!(length < most, "it waits for more than it reads");
        }
        said = now;
    }
    match said {
        Read::NeedMore => {}
        Read::Header(header, length) => {
            assert!(length <= bytes.len() && length <= if bytes[0] == b'P' { LINE_MAX } else { HEADER_MAX });
            assert_eq!(read(&bytes[..length - 1]), Read::NeedMore, "its last byte is none of it");
            anew(header);
        }
        Read::Fault(fault) => assert!(!matches!(fault, Fault::Closed | Fault::Unused), "nobody has left"),
    }
}

fn anew(header: Header) {
    let ends = match header {
        Header::Local => None,
        Header::Carried(ends) => Some(ends),
    };
    for version in [Version::V1, Version::V2] {
        let written = write(version, ends);
        assert_eq!(read(&written), Read::Header(header, written.len()), "{}", written.escape_ascii());
    }
}
