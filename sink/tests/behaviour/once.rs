//! For commands that tell how far they are.

use std::cell::RefCell;

/// Does something the first time that it is told anything.
pub fn once(act: impl FnOnce()) -> impl Fn(&str) {
    let act = RefCell::new(Some(act));
    move |_: &str| {
        if let Some(act) = act.take() {
            act();
        }
    }
}
