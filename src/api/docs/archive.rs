//! Reads single files out of a ZIP archive that is part of the program: stored or deflated, no more.

use std::io::Read;

use flate2::read::DeflateDecoder;

/// What the list of files begins with at its end, and each file's entry in it.
const END: &[u8] = b"PK\x05\x06";
const ENTRY: &[u8] = b"PK\x01\x02";
/// Bytes of an entry, and of what stands before a file, without names and comments.
const ENTRY_BYTES: usize = 46;
const HEAD_BYTES: usize = 30;

/// The file whose path ends with `end`. Nothing when there is none, or the archive is none that this can read.
pub(super) fn file(archive: &[u8], end: &str) -> Option<Vec<u8>> {
    // Only a comment may follow the end.
    let last = archive.windows(END.len()).rposition(|bytes| bytes == END)?;
    let last = archive.get(last..)?.strip_prefix(END)?;
    let mut entry = archive.get(number(last, 12, 4)?..)?;
    loop {
        let fields = entry.strip_prefix(ENTRY)?;
        let (name, extra, comment) =
            (number(fields, 24, 2)?, number(fields, 26, 2)?, number(fields, 28, 2)?);
        let path = entry.get(ENTRY_BYTES..)?.get(..name)?;
        if path.ends_with(end.as_bytes()) {
            let packed =
                contents(archive, number(fields, 38, 4)?)?.get(..number(fields, 16, 4)?)?;
            let mut bytes = Vec::new();
            match number(fields, 6, 2)? {
                0 => bytes.extend_from_slice(packed),
                8 => drop(DeflateDecoder::new(packed).read_to_end(&mut bytes).ok()?),
                _ => return None,
            }
            return (bytes.len() == number(fields, 20, 4)?).then_some(bytes);
        }
        entry = entry.get(ENTRY_BYTES..)?.get(name..)?.get(extra..)?.get(comment..)?;
    }
}

/// What follows the head at `at`.
fn contents(archive: &[u8], at: usize) -> Option<&[u8]> {
    let head = archive.get(at..)?;
    head.get(HEAD_BYTES..)?.get(number(head, 26, 2)?..)?.get(number(head, 28, 2)?..)
}

/// The number in `length` bytes at `at`, the lowest first.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.get(..length)?;
    bytes
        .iter()
        .rev()
        .try_fold(0_usize, |number, byte| number.checked_mul(256)?.checked_add(usize::from(*byte)))
}
