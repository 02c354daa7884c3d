//! `token-billing purchases check`: whether the stores can be asked as the settings say. No purchase is touched,
//! and no database needed.

use chrono::Utc;

use super::{
    receipts::ReceiptSettings,
    report::{Differs, number, print},
};
use crate::outgoing::Outgoing;

/// Prints a line for each thing tried; an error when one of them is wrong.
#[expect(clippy::disallowed_methods, reason = "the command gives the stores their clock")]
pub(crate) async fn purchases_check(receipts: Option<ReceiptSettings>) -> anyhow::Result<()> {
    let Some(receipts) = receipts else {
        return print(&"BILLING_RECEIPTS is off: no store is asked, purchases are believed");
    };
    let client = Outgoing::new().map_err(anyhow::Error::msg)?;
    let mut wrong = 0;
    if let Some(google) = receipts.google {
        let lines = google.client(client.clone(), Utc::now, None).check().await;
        tell(lines, &mut wrong)?;
    }
    if let Some(apple) = receipts.apple {
        let lines = match apple.api(client, Utc::now, None) {
            Some(api) => api.check().await,
            None => vec![Ok("Apple: without BILLING_APPLE_ISSUER_ID, BILLING_APPLE_KEY_ID and \
                             BILLING_APPLE_PRIVATE_KEY signed transactions are verified, and none is \
                             looked up"
                .to_owned())],
        };
        tell(lines, &mut wrong)?;
    }
    if wrong > 0 {
        return Err(Differs(format!("{} wrong", number(wrong, "thing is", "things are"))).into());
    }
    Ok(())
}

fn tell(lines: Vec<Result<String, String>>, wrong: &mut u64) -> anyhow::Result<()> {
    for line in lines {
        match line {
            Ok(line) => print(&format_args!("ok: {line}"))?,
            Err(line) => {
                *wrong = wrong.saturating_add(1);
                print(&format_args!("wrong: {line}"))?;
            }
        }
    }
    Ok(())
}
