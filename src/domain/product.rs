//! What the app stores sell for us, and the credits that one of each is worth.

use std::{collections::BTreeMap, sync::Arc};

use super::{Credits, ProductId, PurchasedItem};

/// A product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Product {
    /// What one of it is worth.
    pub credits: Credits,
    /// Whether it is offered. What is paid for is granted all the same.
    pub active: bool,
}

/// All products by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProductList(Arc<BTreeMap<ProductId, Product>>);

/// Why a purchase can't be turned into credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoCredits {
    /// A product of it is not in the list.
    UnknownProduct,
    /// They are more than an account can hold.
    TooMany,
}

impl ProductList {
    /// What one of a product is worth, if it is in the list.
    pub(crate) fn credits(&self, product: &ProductId) -> Option<Credits> {
        self.0.get(product).map(|product| product.credits)
    }

    /// A product, if it is in the list.
    pub(crate) fn get(&self, product: &ProductId) -> Option<Product> {
        self.0.get(product).copied()
    }

    /// All of them, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ProductId, &Product)> {
        self.0.iter()
    }

    /// Adds a product, or changes it.
    pub(super) fn set(&mut self, id: &ProductId, product: Product) {
        Arc::make_mut(&mut self.0).insert(id.clone(), product);
    }

    /// Those that are offered, in the order of their names.
    pub(crate) fn offered(&self) -> impl Iterator<Item = (&ProductId, Credits)> {
        let offered = self.0.iter().filter(|(_, product)| product.active);
        offered.map(|(name, product)| (name, product.credits))
    }

    /// What all of `items` are worth together.
    ///
    /// # Errors
    /// [`NoCredits`]; nothing is granted in part.
    pub(crate) fn worth(&self, items: &[PurchasedItem]) -> Result<Credits, NoCredits> {
        items.iter().try_fold(Credits::ZERO, |sum, item| {
            let one = self.credits(&item.product).ok_or(NoCredits::UnknownProduct)?;
            let all = one.get().checked_mul(item.quantity.into());
            let all = all.and_then(|all| Credits::new(all).ok());
            all.and_then(|all| sum.checked_add(all)).ok_or(NoCredits::TooMany)
        })
    }
}

impl FromIterator<(ProductId, Product)> for ProductList {
    fn from_iter<I: IntoIterator<Item = (ProductId, Product)>>(products: I) -> Self {
        Self(Arc::new(products.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purchase_is_worth_all_of_its_items_or_nothing() {
        let product = |credits, active| Product {
            credits: Credits::new(credits).expect("an amount"),
            active,
        };
        let name = |name: &str| ProductId::new(name).expect("a name");
        let largest = Credits::MAX.get();
        let list: ProductList = [
            (name("small"), product(300, true)),
            (name("gone"), product(500, false)),
            (name("most"), product(largest, true)),
        ]
        .into_iter()
        .collect();
        let worth = |items: &[(&str, u32)]| {
            let items = items.iter().map(|(product, quantity)| {
                PurchasedItem::new(product, *quantity).expect("a product")
            });
            list.worth(&items.collect::<Vec<_>>()).map(Credits::get)
        };
        assert_eq!(worth(&[("small", 1)]), Ok(300));
        assert_eq!(worth(&[("small", 3), ("gone", 2)]), Ok(1_900));
        assert_eq!(worth(&[("small", 1), ("unknown", 1)]), Err(NoCredits::UnknownProduct));
        assert_eq!(worth(&[("most", 1)]), Ok(largest));
        assert_eq!(worth(&[("most", 1), ("small", 1)]), Err(NoCredits::TooMany));
        assert_eq!(worth(&[("most", u32::MAX)]), Err(NoCredits::TooMany));
        let offered: Vec<_> = list.offered().map(|(name, _)| name.as_str()).collect();
        assert_eq!(offered, ["most", "small"]);
    }
}
