//! Changes to fields, applied to whatever type the caller keeps its fields in.
//!
//! The Gateway API does not say in which order set, add and remove of one filter act; here: set, then add, then remove,
//! as the model says and Istio does. Names are compared without case by the implementer of [`FieldsMut`].

use leno_model::snapshot::HeaderChange;

/// Fields that can be changed. Names given are spelt as the configuration spells them; they compare without case.
pub trait FieldsMut {
    /// Replaces all fields of the name by one, or adds it.
    fn set(&mut self, name: &str, value: &str);
    /// Adds one more field after those that exist.
    fn append(&mut self, name: &str, value: &str);
    /// Removes all fields of the name.
    fn remove(&mut self, name: &str);
}

/// Applies one change.
pub fn apply(change: &HeaderChange, fields: &mut impl FieldsMut) {
    for (name, value) in &change.set {
        fields.set(name, value);
    }
    for (name, value) in &change.add {
        fields.append(name, value);
    }
    for name in &change.remove {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Log(Vec<String>);

    impl FieldsMut for Log {
        fn set(&mut self, name: &str, value: &str) {
            self.0.push(format!("{name}={value}"));
        }
        fn append(&mut self, name: &str, value: &str) {
            self.0.push(format!("{name}+{value}"));
        }
        fn remove(&mut self, name: &str) {
            self.0.push(format!("-{name}"));
        }
    }

    #[test]
    fn a_change_sets_then_adds_then_removes() {
        let change = HeaderChange {
            set: vec![("A".into(), "1".into())],
            add: vec![("b".into(), "2".into())],
            remove: vec!["c".into()],
        };
        let mut log = Log::default();
        apply(&change, &mut log);
        assert_eq!(log.0, ["A=1", "b+2", "-c"]);
    }
}
