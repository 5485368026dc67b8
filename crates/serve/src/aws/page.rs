//! Lists that are returned page by page.
//!
//! Used by the services. A page begins after the last item of the previous one, so new items cause
//! no repetition.

/// A part of a list.
pub(super) struct ListPage<'a, T> {
    pub(super) items: &'a [T],
    /// The token for the next page, if there is one.
    pub(super) next: Option<&'a str>,
}

/// A page of at most `most` items; `None` if the token matches no item.
pub(super) fn page<'a, T>(
    all: &'a [T],
    name: impl Fn(&'a T) -> &'a str,
    after: Option<&str>,
    most: usize,
) -> Option<ListPage<'a, T>> {
    let start = match after {
        None => 0,
        Some(last) => all.iter().position(|item| name(item) == last)? + 1,
    };
    let rest = &all[start..];
    let items = &rest[..rest.len().min(most)];
    let is_last = items.len() == rest.len();
    let next = items.last().filter(|_| !is_last).map(name);
    Some(ListPage { items, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_to_an_end() {
        let all = ["a", "b", "c"];
        let page = |after| page(&all, |item| item, after, 2);
        let first = page(None).expect("a page");
        assert_eq!((first.items, first.next), (&["a", "b"][..], Some("b")));
        let second = page(first.next).expect("a page");
        assert_eq!((second.items, second.next), (&["c"][..], None));
        assert!(page(Some("c")).expect("a page").items.is_empty());
        assert!(page(Some("x")).is_none());
    }
}
