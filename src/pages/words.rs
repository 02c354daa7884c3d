//! The words of the pages, in both languages side by side, so that none is forgotten. `{}` stands for a value.

macro_rules! words {
    ($($name:ident: $english:literal, $japanese:literal;)+) => {
        /// What the pages say in one language.
        #[derive(Debug)]
        pub(super) struct Words {
            $(pub(super) $name: &'static str,)+
        }

        pub(super) const ENGLISH: Words = Words { $($name: $english,)+ };
        pub(super) const JAPANESE: Words = Words { $($name: $japanese,)+ };
    };
}

words! {
    language: "en", "ja";
    other_language: "ja", "en";
    other_language_name: "日本語", "English";
    product: "Token billing", "Token billing";
    skip: "Skip to the content", "本文へ移動";
    rooms: "Pages", "ページ";

    // The rooms.
    overview: "Overview", "概要";
    users: "Users", "ユーザー";
    user: "User", "ユーザー";
    purchases: "Purchases", "購入";
    prices: "Prices", "価格";
    prices_and_products: "Prices and products", "価格と商品";
    products: "Products", "商品";
    reports: "Reports", "レポート";
    log: "Log", "操作ログ";
    system: "System", "システム";

    // The way in and out.
    log_in: "Log in", "ログイン";
    log_out: "Log out", "ログアウト";
    login_title: "Log in to the admin pages", "管理画面へのログイン";
    token: "Operator's token", "運用者トークン";
    token_hint: "The value of BILLING_OPERATOR_TOKEN, or a JSON Web Token whose scope holds billing:operator.",
        "BILLING_OPERATOR_TOKEN の値、または scope に billing:operator を含む JSON Web Token です。";
    wrong_token: "This is no operator's token. Check it and try again.",
        "運用者のトークンではありません。確認してからもう一度お試しください。";
    too_many_attempts: "Too many wrong tokens from your address. Wait a minute, then try again.",
        "誤ったトークンが多すぎます。1分ほど待ってからもう一度お試しください。";
    login_unavailable: "The token can't be checked now. Try again in a moment.",
        "ただいまトークンを確認できません。少し待ってからもう一度お試しください。";
    needs_https: "This page came over plain http, so the session would not be safe. Open it over https, or through an SSH tunnel on localhost.",
        "暗号化されていない http で開かれているため、安全にログインできません。https か、SSH トンネル経由の localhost で開いてください。";

    // What went wrong.
    not_found: "Not here", "見つかりません";
    not_found_text: "There is no such page, or nobody and nothing of that name.",
        "このページ、またはその名前のものはありません。";
    not_done: "Not done", "実行されませんでした";
    unavailable: "Not now", "ただいま利用できません";
    broken: "Something is broken", "エラーが発生しました";
    broken_text: "The service's log says why, under this request's id.", "理由はサービスのログに記録されています。";
    no_form_text: "What was sent is no form of these pages.", "送信された内容は、この管理画面のフォームではありません。";
    foreign_text: "This form did not come from these pages, so nothing was done. Open the page here and send it again.",
        "この管理画面以外から送信されたフォームのため、何も実行されませんでした。ここでページを開き直して送信してください。";
    too_large_text: "What was sent is too long.", "送信された内容が大きすぎます。";
    deadline_text: "It took too long. Look whether it was done before you try again.",
        "時間がかかりすぎました。実行されたかどうかを確認してからもう一度お試しください。";
    back_to_overview: "To the overview", "概要へ戻る";

    // The overview.
    as_of: "as of {} UTC", "{} UTC 時点";
    sold: "Credits sold", "販売クレジット";
    given: "Credits given", "付与クレジット";
    allocated_credits: "Credits allocated", "割当済みクレジット";
    refunded: "Credits refunded", "返金クレジット";
    credits_short: "Credits short", "不足クレジット";
    consumed: "Tokens consumed", "消費トークン";
    tokens_short: "Tokens short", "不足トークン";
    active_today: "Active users today", "本日のアクティブユーザー";
    of_users: "of {} in all", "全 {} ユーザー";
    hint_sold: "bought, since the beginning", "これまでの購入の合計";
    hint_given: "bonus, since the beginning", "これまでのボーナスの合計";
    hint_consumed: "used up, since the beginning", "これまでの消費の合計";
    others: "others", "その他";
    hint_allocated: "less what was returned", "返却分を除く";
    hint_refunded: "taken back by refunds", "返金により回収した分";
    hint_credits_short: "refunded when spent already", "返金時に使用済みだった分";
    hint_tokens_short: "used beyond what was there", "残高を超えて使われた分";
    chart_sold: "Credits sold, 30 days", "販売クレジット（30日間）";
    chart_tokens: "Tokens consumed by model, 30 days", "モデル別の消費トークン（30日間）";
    show_numbers: "Show as a table", "表で表示";
    day: "Day", "日";
    no_data_yet: "Nothing in these 30 days.", "この30日間のデータはありません。";
    attention: "Needs attention", "対応が必要な項目";
    all_well: "Nothing waits for you.", "対応が必要な項目はありません。";
    reviews_wait: "Purchases in review: {}", "確認待ちの購入: {} 件";
    received_wait: "Purchases not confirmed yet: {}", "未確認の購入: {} 件";
    oldest_waits: "the oldest since {} UTC", "最も古いもの: {} UTC";
    acknowledgements_wait: "Purchases Google was not told of yet: {}", "Google への通知が済んでいない購入: {} 件";
    store_errors: "Not confirmed by {} the last time it was asked: {}", "{} に直近で確認できなかった購入: {} 件";
    verify_failed: "The last verification found differences", "直近の検証で差異が見つかりました";
    verify_never: "The books were not verified since the start", "起動後、帳簿の検証は行われていません";
    look: "Look", "確認する";
    newest: "Newest entries", "最近の取引";
    all: "All", "すべて";

    // Users.
    find_user: "Find a user", "ユーザーを検索";
    find_hint: "A user's id or its beginning, or a store's transaction id",
        "ユーザーID（前方一致）またはストアのトランザクションID";
    find: "Find", "検索";
    user_id: "User", "ユーザー";
    credits: "Credits", "クレジット";
    tokens: "Tokens", "トークン";
    frozen: "Frozen", "凍結中";
    not_frozen: "Not frozen", "通常";
    since: "Since", "登録日時";
    user_missing: "Name the user, in 1 to 128 characters.", "ユーザーIDを1〜128文字で入力してください。";
    nobody_found: "Nobody is called so.", "該当するユーザーはいません。";
    nobody_yet: "There are no users yet.", "ユーザーはまだいません。";
    older: "Older", "さらに表示";
    more: "More", "さらに表示";
    grant_new: "An unknown user gets an account with a grant.", "未登録のユーザーにも付与できます（アカウントが作成されます）。";

    // One user.
    paid: "Paid", "購入分";
    bonus: "Bonus", "ボーナス";
    total: "Total", "合計";
    model: "Model", "モデル";
    allocated: "Allocated", "割当";
    held: "Held", "確保中";
    available: "Available", "利用可能";
    category: "Category", "カテゴリー";
    no_tokens: "No tokens were ever allocated.", "トークンはまだ割り当てられていません。";
    chart_usage: "Tokens used by model, 30 days", "モデル別の使用トークン（30日間）";
    open_holds: "Open holds", "確保中のトークン";
    hold: "Hold", "確保";
    expires: "Expires", "期限";
    release: "Release", "解放";
    ledger: "Ledger", "元帳";
    kind: "Kind", "種類";
    amount: "Amount", "数量";
    change_credits: "Credits", "クレジット";
    change_tokens: "Tokens", "トークン";
    when: "When (UTC)", "日時 (UTC)";
    who: "Who", "実行者";
    why: "Reason", "理由";
    details: "Details", "詳細";
    reverse: "Reverse", "取り消し";
    nothing_yet: "Nothing here.", "データはありません。";
    filter: "Filter", "絞り込み";
    any_kind: "Any kind", "すべての種類";
    any_model: "Any model", "すべてのモデル";
    download_csv: "Download as CSV", "CSV をダウンロード";
    actor_user: "user", "ユーザー";
    actor_backend: "backend", "バックエンド";
    actor_operator: "operator", "運用者";
    actor_store: "store", "ストア";
    kind_purchase: "purchase", "購入";
    kind_allocation: "allocation", "割当";
    kind_consumption: "consumption", "消費";
    kind_refund: "refund", "返金";
    kind_reversal: "reversal", "取り消し";
    kind_return: "return", "返却";
    kind_grant: "grant", "付与";
    kind_adjustment: "adjustment", "修正";
    detail_bonus: "bonus {}", "ボーナス {}";
    detail_input: "input {}", "入力 {}";
    detail_output: "output {}", "出力 {}";
    detail_shortfall: "shortfall {}", "不足 {}";
    detail_price: "price {}", "単価 {}";
    detail_reverses: "reverses #{}", "#{} の取り消し";
    detail_allocation: "allocation #{}", "割当 #{}";
    detail_hold: "hold {}", "確保 {}";
    detail_store_id: "store id {}", "ストアID {}";
    grant: "Grant credits", "クレジットを付与";
    adjust: "Adjust", "残高を修正";
    freeze: "Freeze", "凍結";
    unfreeze: "Unfreeze", "凍結解除";
    erase: "Erase", "消去";
    is_frozen: "This account is frozen: nothing can be spent or used.", "このアカウントは凍結中です。使用・割当はできません。";

    // Forms.
    reason: "Reason", "理由";
    reason_hint: "Stands in the log for ever; 1 to 200 characters.", "操作ログに残ります（1〜200文字）。";
    reason_missing: "Say why, in 1 to 200 characters.", "理由を1〜200文字で入力してください。";
    not_positive: "Enter a whole number from 1 on.", "1 以上の整数を入力してください。";
    not_zero: "Enter a whole number that is not 0.", "0 以外の整数を入力してください。";
    go_on: "Go on", "次へ";
    look_again: "Look again before it is done", "内容をご確認ください";
    do_it: "Yes, do it", "実行する";
    change_it: "Change it", "修正する";
    cancel: "Cancel", "キャンセル";
    before: "Before", "変更前";
    after: "After", "変更後";
    wrong_form: "It was not done.", "実行されませんでした。";
    credits_to_grant: "Credits", "クレジット数";
    grant_hint: "They count as bonus: they are not worth money, and no report counts them as sold.",
        "ボーナスとして付与されます。販売・未使用残高には含まれません。";
    adjust_hint: "Puts right what is wrong, by a difference: 50 adds, -50 takes away. Never below zero, nor below what is held.",
        "差分で修正します。50 で加算、-50 で減算です。0 未満や確保中の分を下回ることはできません。";
    adjust_what: "What is adjusted", "修正する対象";
    difference: "Difference", "差分";
    freeze_hint: "A frozen account can't consume, allocate, hold or reset. It can be read, and paid purchases, returns, settlements and refunds go on.",
        "凍結すると、消費・割当・確保・リセットができなくなります。参照、購入、返却、精算、返金は続けられます。";
    unfreeze_hint: "The user can spend and use again.", "再び使用・割当ができるようになります。";
    erase_hint: "The user is renamed everywhere, purchase records are emptied and holds released. It can't be undone.",
        "ユーザー名はすべて匿名化され、購入記録は消去、確保は解放されます。元に戻せません。";
    forfeit: "The user forfeits what is left of paid credits and tokens", "購入分の残高は放棄されます";
    type_user: "Type the user's id to confirm", "確認のためユーザーIDを入力してください";
    type_user_wrong: "This is not the user's id.", "ユーザーIDが一致しません。";
    paid_remains: "Paid credits or tokens are left. Tick the box if the user forfeits them.",
        "購入分の残高があります。放棄する場合はチェックを入れてください。";
    release_hint: "What is held is available again; the chat that holds it can't settle it any more.",
        "確保中のトークンを解放します。そのチャットは精算できなくなります。";
    reverse_hint: "The tokens of this consumption go back to the user. Empty: all that is not reversed yet.",
        "この消費のトークンをユーザーへ戻します。空欄の場合は、未取消の全量です。";
    reverse_tokens: "Tokens to reverse", "取り消すトークン数";

    // What was done.
    done_grant: "Granted.", "付与しました。";
    done_adjust: "Adjusted.", "修正しました。";
    done_freeze: "Frozen.", "凍結しました。";
    done_unfreeze: "Not frozen any more.", "凍結を解除しました。";
    done_erase: "It is being erased; large accounts take a while.", "消去を開始しました。大きなアカウントでは時間がかかります。";
    done_release: "Released.", "解放しました。";
    done_reverse: "Reversed.", "取り消しました。";
    done_price: "The price counts from now on.", "価格を変更しました。";
    done_price_removed: "The model is not sold any more.", "モデルの販売を終了しました。";
    done_product: "The product is saved.", "商品を保存しました。";
    done_approve: "Approved.", "承認しました。";
    done_reject: "Rejected.", "却下しました。";
    done_retry: "Its store is asked again.", "ストアに再確認します。";
    done_refund: "Refunded.", "返金を記録しました。";
    done_verify: "Verification has begun.", "検証を開始しました。";

    // Purchases.
    state: "State", "状態";
    product_name: "Product", "商品";
    price: "Price", "価格";
    purchase: "Purchase", "購入";
    store: "Store", "ストア";
    created: "Arrived", "受付日時";
    purchased: "Bought", "購入日時";
    granted: "Granted", "付与日時";
    acknowledged: "Its store was told", "ストアへの通知";
    consumed_at_store: "May be bought again", "ストアでの消費";
    due: "Asked or told next", "次回の確認";
    attempts: "Attempts", "試行回数";
    refunded_by_store: "Refunded by the store, in credits", "ストアによる返金（クレジット）";
    refunded_by_operator: "Refunded by an operator, in credits", "運用者による返金（クレジット）";
    taken: "Taken for that", "そのうち回収済み";
    state_received: "Received", "受付済み";
    state_pending: "Pending", "支払い待ち";
    state_review: "In review", "確認待ち";
    state_granted: "Granted", "付与済み";
    state_refused: "Refused", "却下";
    state_unclaimed: "Unclaimed", "未請求";
    state_refunded: "Refunded", "返金済み";
    approve: "Approve", "承認";
    reject: "Reject", "却下";
    retry: "Ask again", "再確認";
    refund: "Refund", "返金";
    approve_hint: "The user gets the credits. Empty: what the table of products says.",
        "ユーザーにクレジットを付与します。空欄の場合は商品表の値です。";
    reject_hint: "Nobody gets anything for it, and the store is not asked again.", "クレジットは付与されず、ストアへの再確認も行いません。";
    retry_hint: "Its store is asked at once.", "すぐにストアへ再確認します。";
    refund_hint: "Books a refund that you made at the store. Empty: the whole purchase.", "ストアで行った返金を記録します。空欄の場合は全額です。";
    store_said: "What the store said", "ストアの回答";
    no_purchases_here: "No purchases here.", "該当する購入はありません。";
    credits_optional: "Credits (may be empty)", "クレジット数（任意）";

    // Prices.
    price_per_m: "Credits per million tokens", "100万トークンあたりのクレジット";
    tokens_per_100: "Tokens per 100 credits", "100クレジットあたりのトークン";
    edit: "Edit", "変更";
    history: "History", "履歴";
    add_model: "Add a model", "モデルを追加";
    add_product: "Add a product", "商品を追加";
    preview: "What changes", "変更内容";
    take_off: "Take off sale", "販売を終了";
    take_off_hint: "Balances stay, and can be used up; nothing more can be bought.", "残高はそのまま使えますが、新規の割当はできなくなります。";
    off_sale: "not sold", "販売終了";
    price_jump: "That is more than five times, or less than a fifth of, today's price. Tick the box if it is meant.",
        "現在の価格の5倍超または5分の1未満です。意図した変更であればチェックを入れてください。";
    price_jump_confirm: "I mean this price", "この価格で間違いありません";
    price_changed: "Somebody else changed the price meanwhile: it is {} now. You had seen {}.",
        "別の操作で価格が変更されました。現在は {}、表示時は {} でした。";
    price_wrong: "Enter a whole number of credits from 1 on.", "1 以上の整数（クレジット）を入力してください。";
    product_changed: "Somebody else changed the product meanwhile: it is {} now. You had seen {}.",
        "別の操作で商品が変更されました。現在は {}、表示時は {} でした。";
    model_missing: "Name the model, in 1 to 128 characters.", "モデル名を1〜128文字で入力してください。";
    product_missing: "Name the product, in 1 to 255 characters.", "商品IDを1〜255文字で入力してください。";
    active: "Offered", "販売中";
    inactive: "Not offered", "販売停止";
    no_prices: "No model is sold.", "販売中のモデルはありません。";
    no_products: "There are no products.", "商品はありません。";
    beginning: "from the beginning", "初期値";

    // Reports.
    unused_balance: "Unused balance", "未使用残高";
    unused_hint: "What was bought and not used at the end of a day. Japan's Payment Services Act asks for it on 31 March and 30 September.",
        "指定日の終了時点における、購入済みで未使用の残高です。資金決済法では3月31日と9月30日の残高が基準となります。";
    at_end_of: "At the end of", "基準日";
    timezone: "Time zone", "タイムゾーン";
    show: "Show", "表示";
    paid_credits: "Paid credits", "有償クレジット";
    bonus_credits: "Bonus credits", "無償クレジット";
    not_a_day: "Enter a day that is over, such as 2026-09-30.", "2026-09-30 のような過去の日付を入力してください。";
    not_a_zone: "Enter the name of a time zone, such as Asia/Tokyo.", "Asia/Tokyo のようなタイムゾーン名を入力してください。";
    item: "Item", "項目";

    // Log.
    action: "What", "操作";
    act_set_price: "set price", "価格変更";
    act_remove_price: "take off sale", "販売終了";
    act_set_product: "set product", "商品変更";
    act_approve: "approve", "承認";
    act_reject: "reject", "却下";
    act_retry: "ask again", "再確認";
    act_refund: "refund", "返金";
    act_grant: "grant", "付与";
    act_adjust: "adjust", "修正";
    act_freeze: "freeze", "凍結";
    act_unfreeze: "unfreeze", "凍結解除";
    act_erase: "erase", "消去";
    act_verify: "verify", "検証";
    filter_user: "Of a user", "ユーザーで絞り込み";
    log_hint: "Everything an operator did. Nothing can be changed or removed here.", "運用者の操作の記録です。変更・削除はできません。";

    // System.
    version: "Version", "バージョン";
    database: "Database", "データベース";
    size: "Size", "サイズ";
    verification: "Verification", "検証";
    verify_hint: "Works out every balance again from its entries, while the service runs.", "サービスを動かしたまま、すべての残高を明細から再計算します。";
    verify_reason: "started on the admin pages", "管理画面から開始";
    verify_now: "Verify now", "検証を開始";
    verify_running: "Running since {} UTC", "{} UTC から実行中";
    verify_ok: "All is as it must be", "問題ありません";
    verify_not_ok: "Differences were found", "差異が見つかりました";
    verify_not_yet: "Not verified since the start", "起動後、未実施";
    started: "Began", "開始";
    ended: "Ended", "終了";
    differences: "Differences", "差異";
    look_again_link: "Look again", "再読み込み";
    users_count: "Accounts", "アカウント数";
}

impl Words {
    /// The sentence about what was just done, by its name in an address.
    pub(super) fn done(&self, what: &str) -> Option<&'static str> {
        let sentences = [
            ("grant", self.done_grant),
            ("adjust", self.done_adjust),
            ("freeze", self.done_freeze),
            ("unfreeze", self.done_unfreeze),
            ("erase", self.done_erase),
            ("release", self.done_release),
            ("reverse", self.done_reverse),
            ("price", self.done_price),
            ("price_removed", self.done_price_removed),
            ("product", self.done_product),
            ("approve", self.done_approve),
            ("reject", self.done_reject),
            ("retry", self.done_retry),
            ("refund", self.done_refund),
            ("verify", self.done_verify),
        ];
        sentences.into_iter().find(|(name, _)| *name == what).map(|(_, sentence)| sentence)
    }

    /// What a state of purchases is called.
    pub(super) fn state_name<'a>(&self, state: &'a str) -> &'a str {
        match state {
            "received" => self.state_received,
            "pending" => self.state_pending,
            "review" => self.state_review,
            "granted" => self.state_granted,
            "refused" => self.state_refused,
            "unclaimed" => self.state_unclaimed,
            "refunded" => self.state_refunded,
            other => other,
        }
    }

    /// What a kind of entry is called.
    pub(super) fn kind_name<'a>(&self, kind: &'a str) -> &'a str {
        match kind {
            "purchase" => self.kind_purchase,
            "allocation" => self.kind_allocation,
            "consumption" => self.kind_consumption,
            "refund" => self.kind_refund,
            "reversal" => self.kind_reversal,
            "return" => self.kind_return,
            "grant" => self.kind_grant,
            "adjustment" => self.kind_adjustment,
            other => other,
        }
    }

    /// What an act of an operator is called.
    pub(super) fn act_name<'a>(&self, act: &'a str) -> &'a str {
        match act {
            "set_price" => self.act_set_price,
            "remove_price" => self.act_remove_price,
            "set_product" => self.act_set_product,
            "approve_purchase" => self.act_approve,
            "reject_purchase" => self.act_reject,
            "retry_purchase" => self.act_retry,
            "refund_purchase" => self.act_refund,
            "grant" => self.act_grant,
            "adjust" => self.act_adjust,
            "freeze" => self.act_freeze,
            "unfreeze" => self.act_unfreeze,
            "erase" => self.act_erase,
            "verify" => self.act_verify,
            other => other,
        }
    }

    /// Who made an entry, or did what the log tells.
    pub(super) fn actor<'a>(&self, actor: Option<&'a str>) -> &'a str {
        match actor {
            None => self.actor_user,
            Some("backend") => self.actor_backend,
            Some("operator") => self.actor_operator,
            Some("store") => self.actor_store,
            Some(other) => other,
        }
    }
}

/// A sentence with its values in place.
pub(super) fn filled(sentence: &str, values: &[&str]) -> String {
    let mut values = values.iter();
    let mut parts = sentence.split("{}");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(values.next().unwrap_or(&""));
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_where_they_belong() {
        assert_eq!(filled("{} of {}", &["1", "2"]), "1 of 2");
        assert_eq!(filled("all", &["1"]), "all");
        assert_eq!(filled("{}?", &[]), "?");
    }
}
