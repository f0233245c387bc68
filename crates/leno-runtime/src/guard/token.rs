//! Bearer tokens: made from 256 random bits, kept as hashes, compared in constant time.
//!
//! The admin's token alone stands in clear, in a file that only its owner can read, from which the CLI on the same
//! machine takes it; the others are shown once when they are made. A plain SHA-256 is enough for a secret of 256 bits;
//! a slow hash would protect only guessable ones.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use leno_model::identity::{Principal, Role};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::random::secret_bytes;

/// The file of the admin's token in the data directory.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";

/// The file of the other tokens' hashes in the data directory: one `HASH ROLE NAME` a line.
const TOKENS_FILE: &str = "tokens";

/// Tokens in one set.
const TOKENS_MAX: usize = 1024;

/// The longest file that is read.
const FILE_MAX: u64 = 512 * 1024;

/// What every token starts with, so that a leaked one is recognised.
const PREFIX: &str = "leno_";

/// Who has which token, as hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenSet {
    tokens: Vec<(Hash, Principal)>,
}

/// A token file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read a secret.
    #[error("{path} can be read by others (mode {mode:o}); `chmod 600 {path}`, and make a new token if they did")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file does not hold what it should.
    #[error("{path}:{line}: {what}; remove the file and a new one is made")]
    Content {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// No more tokens fit.
    #[error("there are {TOKENS_MAX} tokens already; remove some first")]
    Full,
    /// The name cannot stand in the file.
    #[error("{0:?} is no name for a token; use letters, digits, '-', '_', '.' and '@', at most 64")]
    Name(String),
    /// The kernel gave no random bits.
    #[error("no random bits for a token: {0}")]
    Random(io::Error),
}

type Hash = [u8; 32];

/// The admin's token: read from its file, or made there on the first start.
pub fn admin_token(file: &Path) -> Result<String, TokenError> {
    match read_admin_token(file) {
        Err(TokenError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let token = make_token()?;
            write_private(file, &format!("{token}\n"))?;
            Ok(token)
        }
        result => result,
    }
}

/// The admin's token, as the CLI reads it.
pub fn read_admin_token(file: &Path) -> Result<String, TokenError> {
    let token = read_private(file)?.trim_end().to_owned();
    match token.strip_prefix(PREFIX).is_some_and(|secret| parse_hex(secret).is_some()) {
        true => Ok(token),
        false => Err(TokenError::Content { path: file.to_owned(), line: 1, what: "this is no token" }),
    }
}

// === impl TokenSet ===

impl TokenSet {
    /// Without tokens.
    pub fn new() -> Self {
        TokenSet::default()
    }

    /// The hashed tokens of a data directory; none where there is no file.
    pub fn load(data_dir: &Path) -> Result<Self, TokenError> {
        let path = data_dir.join(TOKENS_FILE);
        let text = match read_private(&path) {
            Err(TokenError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(Self::new()),
            result => result?,
        };
        let parse = |(at, line): (usize, &str)| {
            parse_line(line).map_err(|what| TokenError::Content { path: path.clone(), line: at + 1, what })
        };
        let tokens = text.lines().enumerate().take(TOKENS_MAX).map(parse).collect::<Result<_, _>>()?;
        Ok(TokenSet { tokens })
    }

    /// Writes the hashes of all but the admin's token, whole or not at all.
    pub fn save(&self, data_dir: &Path) -> Result<(), TokenError> {
        let lines = self
            .tokens
            .iter()
            .filter(|(_, principal)| principal.name != "admin")
            .map(|(hash, principal)| format!("{} {} {}\n", hex(hash), principal.role, principal.name));
        write_private(&data_dir.join(TOKENS_FILE), &lines.collect::<String>())
    }

    /// Makes a token for `principal` and returns it in clear, for the only time. An older one of that name ends.
    pub fn create(&mut self, principal: Principal) -> Result<String, TokenError> {
        if !is_name(&principal.name) {
            return Err(TokenError::Name(principal.name));
        }
        self.remove(&principal.name);
        if self.tokens.len() >= TOKENS_MAX {
            return Err(TokenError::Full);
        }
        let token = make_token()?;
        self.insert_token(&token, principal);
        Ok(token)
    }

    /// Takes a token that exists.
    pub fn insert_token(&mut self, token: &str, principal: Principal) {
        self.tokens.push((hash(token), principal));
    }

    /// Takes the admin's token.
    pub fn insert_admin(&mut self, token: &str) {
        self.insert_token(token, Principal { name: "admin".to_owned(), role: Role::Admin });
    }

    /// Ends the tokens of `name`, and says whether there were any.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.tokens.len();
        self.tokens.retain(|(_, principal)| principal.name != name);
        self.tokens.len() != before
    }

    /// Whose token it is. Looks at every hash, each in constant time.
    pub fn find(&self, token: &str) -> Option<&Principal> {
        let asked = hash(token);
        let mut found = None;
        for (known, principal) in &self.tokens {
            if bool::from(known.ct_eq(&asked)) {
                found = Some(principal);
            }
        }
        found
    }

    /// Everyone who has one.
    pub fn principals(&self) -> impl Iterator<Item = &Principal> {
        self.tokens.iter().map(|(_, principal)| principal)
    }
}

pub(super) fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

/// 256 random bits as text.
pub(super) fn make_secret() -> io::Result<String> {
    secret_bytes().map(|bytes: [u8; 32]| hex(&bytes))
}

/// A token that nobody has yet.
pub fn make_token() -> Result<String, TokenError> {
    make_secret().map(|secret| format!("{PREFIX}{secret}")).map_err(TokenError::Random)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hex(text: &str) -> Option<Hash> {
    let mut bytes = [0; 32];
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    is_hex.then_some(bytes)
}

fn parse_line(line: &str) -> Result<(Hash, Principal), &'static str> {
    let mut words = line.split(' ');
    let hash = words.next().and_then(parse_hex).ok_or("the line does not start with a hash")?;
    let role = match words.next() {
        Some("viewer") => Role::Viewer,
        Some("operator") => Role::Operator,
        Some("admin") => Role::Admin,
        _ => return Err("the role is none of viewer, operator, admin"),
    };
    let name = words.next().filter(|name| is_name(name)).ok_or("there is no name")?;
    Ok((hash, Principal { name: name.to_owned(), role }))
}

fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    !name.is_empty() && name.len() <= 64 && name != "admin" && name.bytes().all(is_allowed)
}

fn read_private(path: &Path) -> Result<String, TokenError> {
    let file_error = |source| TokenError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(file_error)?;
    let mode = file.metadata().map_err(file_error)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenError::Open { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(FILE_MAX).read_to_string(&mut text).map_err(file_error)?;
    Ok(text)
}

/// Writes beside it first, so that a crash leaves the old file or the new one, never half of one.
fn write_private(path: &Path, text: &str) -> Result<(), TokenError> {
    let beside = path.with_extension("new");
    let write = || {
        // What a crash left there is not trusted, nor are its permissions.
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| TokenError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn operator(name: &str) -> Principal {
        Principal { name: name.to_owned(), role: Role::Operator }
    }

    #[test]
    fn the_admin_token_is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(ADMIN_TOKEN_FILE);
        let token = admin_token(&file).unwrap();
        assert!(token.starts_with("leno_") && token.len() == 69);
        assert_eq!(admin_token(&file).unwrap(), token);
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_token_file_that_others_can_read_is_refused_with_the_fix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(ADMIN_TOKEN_FILE);
        admin_token(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(admin_token(&path).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_damaged_token_file_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(ADMIN_TOKEN_FILE);
        write_private(&path, "leno_short\n").unwrap();
        assert!(matches!(admin_token(&path), Err(TokenError::Content { .. })));
    }

    #[test]
    fn tokens_are_kept_as_hashes_and_found_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut tokens = TokenSet::new();
        let token = tokens.create(operator("ci")).unwrap();
        tokens.save(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join(TOKENS_FILE)).unwrap();
        assert!(!text.contains(&token[5..]));
        assert_eq!(TokenSet::load(folder.path()).unwrap().find(&token), Some(&operator("ci")));
    }

    #[test]
    fn an_unknown_token_is_nobodys_and_a_removed_one_too() {
        let mut tokens = TokenSet::new();
        let token = tokens.create(operator("ci")).unwrap();
        assert_eq!(tokens.find("leno_x"), None);
        assert!(tokens.remove("ci"));
        assert_eq!(tokens.find(&token), None);
    }

    #[test]
    fn a_name_that_could_forge_a_line_is_refused() {
        for name in ["", "a b", "a\nb", "admin"] {
            assert!(matches!(TokenSet::new().create(operator(name)), Err(TokenError::Name(_))), "{name:?}");
        }
    }
}
