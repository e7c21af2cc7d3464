use super::super::path::show;
use super::*;

/// A set written as lines of paths of fields.
fn set(paths: &str) -> Set {
    let mut set = Set::new();
    for path in paths.split_whitespace() {
        let path: Vec<PathElement> = path.split('.').map(PathElement::named).collect();
        set.insert(&path);
    }
    set
}

fn told(set: &Set) -> Vec<String> {
    set.paths().iter().map(|path| show(path)).collect()
}

#[test]
fn sets_hold_what_was_inserted() {
    let some = set("b a a.c a.b.c a");
    assert_eq!(told(&some), [".a", ".b", ".a.c", ".a.b.c"]);
    assert_eq!(some.len(), 4);
    assert!(some.has(&[PathElement::named("a"), PathElement::named("c")]));
    assert!(!some.has(&[PathElement::named("a"), PathElement::named("b")]));
    assert!(!some.has(&[]));
    assert!(Set::new().is_empty());
}

#[test]
fn sets_are_combined() {
    let (a, b) = (set("x x.a x.b y z.q"), set("x.b x.c z"));
    assert_eq!(a.union(&b), set("x x.a x.b x.c y z z.q"));
    assert_eq!(a.intersection(&b), set("x.b"));
    assert_eq!(a.difference(&b), set("x x.a y z.q"));
    assert_eq!(b.difference(&a), set("x.c z"));
    assert_eq!(a.recursive_difference(&b), set("x x.a y"));
    assert_eq!(a.recursive_difference(&set("x.b.c")), a);
    assert_eq!(a.leaves(), set("x.a x.b y z.q"));
}

#[test]
fn a_difference_that_leaves_nothing_leaves_no_branch() {
    assert!(set("a.b.c").difference(&set("a.b.c")).is_empty());
    assert!(set("a.b.c").intersection(&set("a.b.d")).is_empty());
    assert!(set("a.b.c a.d").recursive_difference(&set("a")).is_empty());
}

#[test]
fn fields_of_structs_become_members() {
    let pod = crate::schema::kind("", "v1", "Pod").expect("a built-in kind");
    let some = set("metadata.labels.a spec.nodeName").with_named_fields(Ref::object(pod));
    let want = set("metadata metadata.labels metadata.labels.a spec spec.nodeName");
    assert_eq!(some, want);
}
