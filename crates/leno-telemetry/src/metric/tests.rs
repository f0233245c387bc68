use super::*;

fn registry() -> Registry {
    Registry::new(2, Limits { series_per_family: 3, edges: 2 })
}

#[test]
fn a_counter_is_the_sum_of_its_shards() {
    let registry = registry();
    let counter = registry.counter("leno_test_total", "Tests.", &[]);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let counter = counter.clone();
            scope.spawn(move || {
                shard::enter(worker);
                (0..1000).for_each(|_| counter.increment());
            });
        }
    });
    counter.add(5);
    assert_eq!(counter.get(), 2005);
}

#[test]
fn the_same_name_and_labels_are_the_same_series() {
    let registry = registry();
    registry.counter("leno_test_total", "Tests.", &[("kind", "a")]).increment();
    registry.counter("leno_test_total", "Tests.", &[("kind", "a")]).increment();
    assert!(registry.render().contains("leno_test_total{kind=\"a\"} 2\n"));
}

#[test]
fn series_beyond_the_limit_share_one() {
    let registry = registry();
    for kind in ["a", "b", "c", "d", "e"] {
        registry.counter("leno_test_total", "Tests.", &[("kind", kind)]).increment();
    }
    assert!(registry.render().contains("leno_test_total{kind=\"overflow\"} 2\n"));
    assert_eq!(registry.overflowed(), 2);
}

#[test]
fn a_label_value_cannot_leave_its_quotes() {
    let registry = registry();
    registry.gauge("leno_test", "Line\nbreak.", &[("kind", "a\"} 1\nforged 2\r\\")]).set(7);
    let text = registry.render();
    assert!(text.contains("# HELP leno_test Line\\nbreak.\n# TYPE leno_test gauge\n"), "{text}");
    assert!(text.contains("leno_test{kind=\"a\\\"} 1\\nforged 2\u{fffd}\\\\\"} 7\n"), "{text}");
}

#[test]
fn a_histogram_prints_buckets_sum_and_count() {
    let registry = registry();
    let histogram = registry.histogram("leno_store_seconds", "Time.", &[("op", "put")], Unit::Seconds);
    histogram.observe(Duration::from_millis(3));
    histogram.observe(Duration::from_secs(100));
    let text = registry.render();
    for line in [
        "# TYPE leno_store_seconds histogram",
        "leno_store_seconds_bucket{op=\"put\",le=\"0.001\"} 0",
        "leno_store_seconds_bucket{op=\"put\",le=\"0.005\"} 1",
        "leno_store_seconds_bucket{op=\"put\",le=\"60\"} 1",
        "leno_store_seconds_bucket{op=\"put\",le=\"+Inf\"} 2",
        "leno_store_seconds_sum{op=\"put\"} 100.003",
        "leno_store_seconds_count{op=\"put\"} 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
}

#[test]
fn every_sample_stands_behind_the_type_of_its_family() {
    let registry = registry();
    registry.gauge_from("leno_b", "Read.", &[], || 1.5);
    registry.collector(|out| {
        out.family("leno_c", "Collected.", Kind::Gauge);
        out.sample("leno_c", &[("x", "y")], f64::INFINITY);
    });
    registry.edge(&EdgeKey::default()).request(&crate::RequestRecord { status: 200, ..Default::default() });
    let mut family = String::new();
    for line in registry.render().lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_owned();
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&family), "{line} stands in {family}");
        }
    }
}

#[test]
fn edges_beyond_the_limit_share_one_and_idle_ones_are_forgotten() {
    let registry = registry();
    let key = |name: &str| EdgeKey { source_version: Some(name.into()), ..Default::default() };
    let kept = registry.edge(&key("a"));
    registry.edge(&key("b"));
    assert!(Arc::ptr_eq(&registry.edge(&key("c")), &registry.edge(&key("d"))));
    registry.sweep(Duration::from_secs(1), Duration::from_secs(60));
    assert_eq!(registry.edges().len(), 3);
    registry.sweep(Duration::from_secs(62), Duration::from_secs(60));
    assert_eq!(registry.edges().len(), 1);
    assert!(Arc::ptr_eq(&registry.edge(&key("a")), &kept));
}
