//! Lines of a ledger as CSV by RFC 4180, appended to bytes without a copy of each field.

use std::io::Write;

use crate::domain::LedgerLine;

/// What the columns are called.
pub(super) const HEADER: &[u8] = b"id,type,amount,credits_delta,bonus_delta,tokens_delta,model_id,\
price_per_m_token,input_tokens,output_tokens,shortfall_tokens,store_transaction_id,reverses,\
allocation_id,hold_id,reason,actor,created_at\r\n";

/// What spreadsheets take for the start of a formula.
const FORMULA_STARTS: [u8; 6] = [b'=', b'+', b'-', b'@', b'\t', b'\r'];
/// What can't be in a field without quotes.
const SPECIAL: [u8; 4] = [b'"', b',', b'\r', b'\n'];

/// Appends one line, in the order of [`HEADER`].
pub(super) fn append(line: &LedgerLine<'_>, csv: &mut Vec<u8>) {
    number(line.id, csv);
    csv.push(b',');
    csv.extend_from_slice(line.kind.name().as_bytes());
    for value in [line.amount, line.credits_delta, line.bonus_delta, line.tokens_delta] {
        csv.push(b',');
        number(value, csv);
    }
    text(line.model_id, csv);
    for value in
        [line.price_per_m_token, line.input_tokens, line.output_tokens, line.shortfall_tokens]
    {
        optional(value, csv);
    }
    text(line.store_transaction_id, csv);
    optional(line.reverses, csv);
    optional(line.allocation_id, csv);
    for value in [line.hold_id, line.reason, line.actor, Some(line.created_at)] {
        text(value, csv);
    }
    csv.extend_from_slice(b"\r\n");
}

fn number(value: i64, csv: &mut Vec<u8>) {
    write!(csv, "{value}").expect("bytes take all");
}

fn optional(value: Option<i64>, csv: &mut Vec<u8>) {
    csv.push(b',');
    if let Some(value) = value {
        number(value, csv);
    }
}

/// A text as a field, which no spreadsheet takes for a formula.
pub(super) fn field(value: &str) -> String {
    let mut csv = Vec::new();
    text(Some(value), &mut csv);
    // Without the comma before it.
    String::from_utf8(csv.split_off(1)).expect("a text stays one")
}

/// A text that no spreadsheet takes for a formula.
fn text(value: Option<&str>, csv: &mut Vec<u8>) {
    csv.push(b',');
    let bytes = value.unwrap_or_default().as_bytes();
    let is_quoted = bytes.iter().any(|byte| SPECIAL.contains(byte));
    let guard: &[u8] =
        if bytes.first().is_some_and(|byte| FORMULA_STARTS.contains(byte)) { b"'" } else { b"" };
    if !is_quoted {
        csv.extend_from_slice(guard);
        csv.extend_from_slice(bytes);
        return;
    }
    csv.push(b'"');
    csv.extend_from_slice(guard);
    for byte in bytes {
        if *byte == b'"' {
            csv.push(b'"');
        }
        csv.push(*byte);
    }
    csv.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EntryKind;

    fn line<'a>() -> LedgerLine<'a> {
        LedgerLine {
            id: 7,
            kind: EntryKind::Return,
            amount: 3,
            credits_delta: 3,
            bonus_delta: 0,
            tokens_delta: -40_000,
            model_id: Some("m"),
            price_per_m_token: None,
            input_tokens: None,
            output_tokens: None,
            shortfall_tokens: None,
            store_transaction_id: None,
            reverses: None,
            allocation_id: Some(2),
            hold_id: None,
            reason: None,
            actor: None,
            created_at: "2026-11-24T10:34:59.299996Z",
        }
    }

    fn written(line: &LedgerLine<'_>) -> String {
        let mut csv = Vec::new();
        append(line, &mut csv);
        String::from_utf8(csv).expect("texts stay texts")
    }

    #[test]
    fn a_line_has_the_fields_of_the_header() {
        let expected = "7,return,3,3,0,-40000,m,,,,,,,2,,,,2026-11-24T10:34:59.299996Z\r\n";
        assert_eq!(written(&line()), expected);
        let header = std::str::from_utf8(HEADER).expect("a text");
        assert_eq!(header.matches(',').count(), expected.matches(',').count());
        assert!(header.ends_with("created_at\r\n"));
    }

    #[test]
    fn texts_are_quoted_where_needed_and_never_a_formula() {
        for (reason, field) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("a\r\nb", "\"a\r\nb\""),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@a", "'@a"),
            ("\ta", "'\ta"),
            ("\ra", "\"'\ra\""),
            ("=a,b", "\"'=a,b\""),
            ("誤り", "誤り"),
        ] {
            let written = written(&LedgerLine { reason: Some(reason), ..line() });
            let expected = format!(",,{field},,2026-11-24T10:34:59.299996Z\r\n");
            assert!(written.ends_with(&expected), "{written:?}");
        }
    }
}
