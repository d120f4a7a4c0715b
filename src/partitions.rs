//! AWS's partitions: what the names of their servers end in, and whose certificates those servers have. Nothing about
//! a single service belongs here.

/// A part of AWS that has its own regions.
pub struct Partition {
    /// What the names of its regions begin with.
    regions: &'static str,
    /// What stands behind `<service>.<region>.` in the names of its servers.
    pub dns_suffix: &'static str,
    /// Whether the certificates of its servers lead to Amazon's public roots. Where they do not, the roots that count
    /// are in the system's bundle.
    pub has_public_roots: bool,
}

/// The partition of every region that no other one claims.
static COMMERCIAL: Partition =
    Partition { regions: "", dns_suffix: "amazonaws.com", has_public_roots: true };

static OTHERS: [Partition; 6] = [
    Partition { regions: "cn-", dns_suffix: "amazonaws.com.cn", has_public_roots: true },
    Partition { regions: "eusc-", dns_suffix: "amazonaws.eu", has_public_roots: true },
    Partition { regions: "us-iso-", dns_suffix: "c2s.ic.gov", has_public_roots: false },
    Partition { regions: "us-isob-", dns_suffix: "sc2s.sgov.gov", has_public_roots: false },
    Partition { regions: "eu-isoe-", dns_suffix: "cloud.adc-e.uk", has_public_roots: false },
    Partition { regions: "us-isof-", dns_suffix: "csp.hci.ic.gov", has_public_roots: false },
];

/// The partition that a region belongs to.
pub fn of_region(region: &str) -> &'static Partition {
    OTHERS.iter().find(|partition| region.starts_with(partition.regions)).unwrap_or(&COMMERCIAL)
}

/// What the names of a region's servers end in.
pub fn dns_suffix(region: &str) -> &'static str {
    of_region(region).dns_suffix
}

/// Splits a name of AWS into what stands in front of the suffix, and the suffix. Gives `None` for other names.
pub fn split(name: &str) -> Option<(&str, &'static str)> {
    OTHERS.iter().chain([&COMMERCIAL]).find_map(|partition| {
        let front = name.strip_suffix(partition.dns_suffix)?.strip_suffix('.')?;
        Some((front, partition.dns_suffix))
    })
}

/// Whether `name` ends like the names of AWS.
pub fn is_of_aws(name: &str) -> bool {
    split(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_belongs_to_one_partition_and_a_name_says_which() {
        for (region, suffix, has_public_roots) in [
            ("eu-central-1", "amazonaws.com", true),
            ("us-gov-west-1", "amazonaws.com", true),
            ("cn-north-1", "amazonaws.com.cn", true),
            ("us-iso-east-1", "c2s.ic.gov", false),
            ("us-isob-east-1", "sc2s.sgov.gov", false),
        ] {
            let partition = of_region(region);
            assert_eq!(
                (partition.dns_suffix, partition.has_public_roots),
                (suffix, has_public_roots)
            );
            let name = format!("sts.{region}.{suffix}");
            assert_eq!(split(&name), Some((format!("sts.{region}").as_str(), suffix)));
        }
        for name in ["amazonaws.com", "xamazonaws.com", "nas.example", ""] {
            assert!(!is_of_aws(name), "{name}");
        }
    }
}
