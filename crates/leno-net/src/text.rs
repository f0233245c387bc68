//! Giving back what only a start needs of the program's file.
//!
//! The kernel maps a file by 64 KiB around every place that is touched, so that after a start (settings, files, YAML,
//! relocations) most of the program counts as resident although serving needs less of it. What is given back is read
//! again from the page cache when it is needed. Rejected: locking or huge pages, which do the opposite.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::ops::Range;

/// Gives the pages of the program's and its libraries' files back to the kernel. Once, when a process is ready.
pub fn release() -> io::Result<()> {
    for range in clean(&fs::read_to_string("/proc/self/smaps")?) {
        // SAFETY: the range is a private mapping of a file that may not be written and of which no page differs from the
        // file: dropped ones are read from there again, by whichever thread wants them.
        let status = unsafe { libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED) };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The private mappings of files, by `/proc/PID/smaps`, that may not be written and hold what the file does. What was
/// relocated may not be written any more either, and has pages of its own, which are counted as anonymous.
fn clean(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("Anonymous:"), Some(kilobytes), _) => found.extend(candidate.take().filter(|_| kilobytes == "0")),
            (Some(range), Some(permissions), Some(_)) if !range.ends_with(':') => {
                let is_file = words.nth(2).is_some_and(|path| path.starts_with('/'));
                candidate = range_of(range).filter(|_| is_file && matches!(permissions, "r--p" | "r-xp"));
            }
            _ => {}
        }
    }
    found
}

fn range_of(word: &str) -> Option<Range<usize>> {
    let (start, end) = word.split_once('-')?;
    let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_clean(mapping: &str, anonymous: u32) -> bool {
        let smaps = format!("{mapping}\nSize:  8 kB\nRss:  8 kB\nAnonymous:  {anonymous} kB\nVmFlags: rd mr mw me\n");
        !clean(&smaps).is_empty()
    }

    #[test]
    fn only_what_is_in_a_file_is_given_back() {
        let code = "1000-3000 r-xp 00001000 08:01 42                 /usr/bin/leno";
        let found = clean(&format!("{code}\nAnonymous:  0 kB\n2000-2000 r-xp 0 08:01 42 /x\nAnonymous: 0 kB"));
        assert_eq!((found.len(), found.first()), (1, Some(&(0x1000..0x3000))));
        assert!(is_clean(code, 0));
        assert!(!is_clean(code, 4), "somebody set a breakpoint");
        assert!(is_clean("1000-3000 r--p 00001000 08:01 42  /usr/bin/leno", 0));
        assert!(!is_clean("1000-3000 r--p 00001000 08:01 42  /usr/bin/leno", 8), "holds relocations");
        assert!(!is_clean("1000-3000 rw-p 00001000 08:01 42  /usr/bin/leno", 0));
        assert!(!is_clean("1000-3000 r-xs 00001000 08:01 42  /usr/bin/leno", 0));
        assert!(!is_clean("7ffc1000-7ffc3000 r-xp 00000000 00:00 0  [vdso]", 0));
        assert!(!is_clean("1000-3000 r-xp 00000000 00:00 0", 0));
    }

    #[test]
    fn a_process_goes_on_after_its_code_was_given_back() {
        release().unwrap();
        assert!(!clean(&fs::read_to_string("/proc/self/smaps").unwrap()).is_empty());
    }
}
