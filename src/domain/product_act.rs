//! What an operator does to the products: one is added, or changed. What was granted stays what it was.

use serde_json::{Value, json};

use super::{Applied, Facts, Operation, OperatorAct, Product, ProductId, Refusal, UserId, Wanted};

/// Sets what a product is worth, and whether it is offered.
#[derive(Debug, Clone)]
pub(crate) struct SetProduct {
    pub id: ProductId,
    pub product: Product,
}

impl Operation for SetProduct {
    type Outcome = ();

    fn asks(&self, wanted: &mut Wanted) {
        wanted.products = true;
        wanted.changes_lists = true;
    }

    fn entries(&self) -> usize {
        0
    }

    fn decide(&self, _: &UserId, facts: &mut Facts) -> Result<Applied<()>, Refusal> {
        facts.set_product(&self.id, self.product);
        Ok(Applied::now(()))
    }
}

impl OperatorAct for SetProduct {
    const ACTION: &'static str = "set_product";
    const OF_ACCOUNT: bool = false;

    fn state(&self, _: &UserId, facts: &Facts) -> Value {
        let product = facts.products.get(&self.id);
        json!({
            "product_id": self.id,
            "credits": product.map(|product| product.credits),
            "active": product.map(|product| product.active),
        })
    }
}
