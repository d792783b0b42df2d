//! The scenarios of the catalogue, built in, so that they can be played without their files.

/// Id and text of each, in order.
pub const CATALOGUE: [(&str, &str); 38] = [
    ("S01", include_str!("../../../../scenarios/S01.toml")),
    ("S02", include_str!("../../../../scenarios/S02.toml")),
    ("S03", include_str!("../../../../scenarios/S03.toml")),
    ("S04", include_str!("../../../../scenarios/S04.toml")),
    ("S05", include_str!("../../../../scenarios/S05.toml")),
    ("S06", include_str!("../../../../scenarios/S06.toml")),
    ("S07", include_str!("../../../../scenarios/S07.toml")),
    ("S08", include_str!("../../../../scenarios/S08.toml")),
    ("S09", include_str!("../../../../scenarios/S09.toml")),
    ("S10", include_str!("../../../../scenarios/S10.toml")),
    ("S11", include_str!("../../../../scenarios/S11.toml")),
    ("S12", include_str!("../../../../scenarios/S12.toml")),
    ("S13", include_str!("../../../../scenarios/S13.toml")),
    ("S14", include_str!("../../../../scenarios/S14.toml")),
    ("S15", include_str!("../../../../scenarios/S15.toml")),
    ("S16", include_str!("../../../../scenarios/S16.toml")),
    ("S17", include_str!("../../../../scenarios/S17.toml")),
    ("S18", include_str!("../../../../scenarios/S18.toml")),
    ("S19", include_str!("../../../../scenarios/S19.toml")),
    ("S20", include_str!("../../../../scenarios/S20.toml")),
    ("S21", include_str!("../../../../scenarios/S21.toml")),
    ("S22", include_str!("../../../../scenarios/S22.toml")),
    ("S23", include_str!("../../../../scenarios/S23.toml")),
    ("S24", include_str!("../../../../scenarios/S24.toml")),
    ("S25", include_str!("../../../../scenarios/S25.toml")),
    ("S26", include_str!("../../../../scenarios/S26.toml")),
    ("S27", include_str!("../../../../scenarios/S27.toml")),
    ("S28", include_str!("../../../../scenarios/S28.toml")),
    ("S29", include_str!("../../../../scenarios/S29.toml")),
    ("S30", include_str!("../../../../scenarios/S30.toml")),
    ("S31", include_str!("../../../../scenarios/S31.toml")),
    ("S32", include_str!("../../../../scenarios/S32.toml")),
    ("S33", include_str!("../../../../scenarios/S33.toml")),
    ("S34", include_str!("../../../../scenarios/S34.toml")),
    ("S35", include_str!("../../../../scenarios/S35.toml")),
    ("S36", include_str!("../../../../scenarios/S36.toml")),
    ("S37", include_str!("../../../../scenarios/S37.toml")),
    ("S38", include_str!("../../../../scenarios/S38.toml")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::read::File;
    use crate::scenario::{Baseline, read};

    #[test]
    fn every_scenario_of_the_catalogue_is_right_and_named_like_its_file() {
        for (id, text) in CATALOGUE {
            let scenario = read::scenario(&format!("{id}.toml"), text).unwrap_or_else(|problems| {
                panic!("{}", problems.iter().map(|p| format!("{p}\n")).collect::<String>())
            });
            assert_eq!(scenario.id, id);
            assert!(!scenario.after.is_empty() && !scenario.title.is_empty(), "{id}");
            assert!(!scenario.expects.is_empty(), "{id} expects nothing");
        }
    }

    #[test]
    fn every_sweep_of_the_catalogue_can_be_played() {
        let mut swept = Vec::new();
        for (id, text) in CATALOGUE {
            let points = File::parse(id, text).and_then(|file| file.points());
            let points = points.unwrap_or_else(|problems| panic!("{id}: {problems:?}"));
            if !points.is_empty() {
                swept.push(id);
            }
        }
        assert_eq!(swept, ["S01", "S04", "S23", "S26", "S31", "S32", "S37"]);
        let first = read::scenario(CATALOGUE[0].0, CATALOGUE[0].1).unwrap();
        assert_eq!(first.baseline, Baseline::MustFail);
    }
}
