//! What a pod of a stage is given.

use super::Found;
use crate::pipeline::ResourcesSpec;
use crate::quantity;

impl Found {
    pub(super) fn resources(&mut self, path: &str, resources: &ResourcesSpec) {
        for (list, quantities) in [("requests", &resources.requests), ("limits", &resources.limits)] {
            for (name, written) in quantities {
                let path = format!("{path}.{list}.{name}");
                if !is_resource(name) {
                    self.add(path, format!("`{name}` is no resource: write `cpu`, `memory`, `ephemeral-storage`, or e.g. `example.com/gpu`"));
                } else if quantity::read(written).is_none_or(|quantity| quantity < 0.0) {
                    self.add(
                        path,
                        format!("`{written}` is not a quantity: write e.g. `cpu: 250m`, `memory: 512Mi`"),
                    );
                }
            }
        }
        for (name, request) in &resources.requests {
            let Some(limit) = resources.limits.get(name) else { continue };
            if let (Some(asked), Some(most)) = (quantity::read(request), quantity::read(limit))
                && asked > most
            {
                self.add(
                    format!("{path}.requests.{name}"),
                    format!("`{request}` is more than its limit `{limit}`: lower it, or raise the limit"),
                );
            }
        }
    }
}

fn is_resource(name: &str) -> bool {
    let qualified = |(domain, name): (&str, &str)| {
        let in_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
        let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !domain.is_empty() && domain.chars().all(in_domain) && !name.is_empty() && name.chars().all(in_name)
    };
    matches!(name, "cpu" | "memory" | "ephemeral-storage")
        || name.starts_with("hugepages-")
        || name.split_once('/').is_some_and(qualified)
}
