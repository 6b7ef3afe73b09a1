package dashboards

func one(expr, legend string) []Query { return []Query{{expr, legend}} }

var boards = []board{
	{
		file: "pipeline.json", title: "Herd / Pipeline", chosen: true,
		description: "Throughput, delay and scaling of one pipeline, stage by stage.",
		rows: []row{
			{"Overview", []panel{
				{title: "Conditions that are not as they should be", description: "Conditions with a reason that needs attention.", single: true, unit: "short",
					queries: one(`sum by (condition, reason) (herd_pipeline_status_condition{`+chosen+`, condition="Ready"})`, "{{condition}}: {{reason}}")},
				{title: "Events per second", description: "Events acknowledged by Kafka.", single: true, unit: "reqps",
					queries: one(`sum(rate(herd_collector_events_total{`+chosen+`, result="accepted"}[5m]))`, "accepted")},
				{title: "Largest lag", description: "Largest consumer lag of a stage, in records.", single: true, unit: "short",
					queries: one(`max(herd_pipeline_stage_lag_records{`+chosen+`})`, "records")},
				{title: "Open alerts", description: "Alerts of the detectors that are open now.", single: true, unit: "short",
					queries: one(`max(herd_api_alerts_open{`+chosen+`})`, "open")},
			}},
			{"Collector", []panel{
				{title: "Events by result", description: "invalid: written to the dead-letter topic. unavailable: not acknowledged by Kafka, clients retry.", unit: "reqps",
					queries: one(`sum by (result) (rate(herd_collector_events_total{`+chosen+`}[$__rate_interval]))`, "{{result}}")},
				{title: "Request duration", description: "Time that clients wait for the acknowledgement.", unit: "s", queries: []Query{
					{`histogram_quantile(0.5, sum by (le) (rate(herd_collector_request_duration_seconds_bucket{` + chosen + `}[$__rate_interval])))`, "p50"},
					{`histogram_quantile(0.99, sum by (le) (rate(herd_collector_request_duration_seconds_bucket{` + chosen + `}[$__rate_interval])))`, "p99"},
				}},
				{title: "Saturation", description: "Events in flight as a part of the limit; above 100 % requests are answered with 503.", unit: "percentunit",
					queries: one(`max by (pod) (herd_collector_saturation{`+chosen+`})`, "{{pod}}")},
			}},
			{"Scaling", []panel{
				{title: "Lag", description: "Consumer lag of each stage.", unit: "short",
					queries: one(`max by (stage) (herd_pipeline_stage_lag_records{`+chosen+`})`, "{{stage}}")},
				{title: "Replicas", description: "Desired and ready replicas.", unit: "short", queries: []Query{
					{`max by (stage) (herd_pipeline_stage_replicas_desired{` + chosen + `})`, "{{stage}} desired"},
					{`max by (stage) (herd_pipeline_stage_replicas_ready{` + chosen + `})`, "{{stage}} ready"},
				}},
				{title: "Utilisation", description: "Part of the time in which the loops of a stage work.", unit: "percentunit",
					queries: one(`1 - avg by (stage, step) (rate(herd_waiting_seconds_total{`+chosen+`}[$__rate_interval]))`, "{{stage}} {{step}}")},
			}},
			{"Sinks", []panel{
				{title: "Rows", description: "Rows written to stores.", unit: "wps",
					queries: one(`sum by (sink, table) (rate(herd_sink_rows_total{`+chosen+`}[$__rate_interval]))`, "{{sink}} {{table}}")},
				{title: "Batch duration", description: "99 % of the transactions take less.", unit: "s",
					queries: one(`histogram_quantile(0.99, sum by (sink, le) (rate(herd_sink_batch_seconds_bucket{`+chosen+`}[$__rate_interval])))`, "{{sink}}")},
				{title: "CPU", description: "CPU time of the processes, in cores.", unit: "short",
					queries: one(`sum by (stage) (rate(process_cpu_seconds_total{`+chosen+`}[$__rate_interval]))`, "{{stage}}")},
			}},
		},
	},
	{
		file: "detection.json", title: "Herd / Detection", chosen: true,
		description: "Counting and detection of one pipeline: windows, keys, alerts.",
		rows: []row{
			{"Counting", []panel{
				{title: "Events counted", description: "late: stored, but not counted. duplicate: retries of clients, counted once.", unit: "reqps", queries: []Query{
					{`sum(rate(herd_fold_events_total{` + chosen + `}[$__rate_interval]))`, "counted"},
					{`sum(rate(herd_fold_late_events_total{` + chosen + `}[$__rate_interval]))`, "late"},
					{`sum(rate(herd_fold_duplicate_events_total{` + chosen + `}[$__rate_interval]))`, "duplicate"},
				}},
				{title: "Windows closed", description: "Windows of keys closed per second.", unit: "wps",
					queries: one(`sum(rate(herd_judge_windows_closed_total{`+chosen+`}[$__rate_interval]))`, "windows")},
				{title: "Keys", description: "Keys in open windows, and keys with a baseline. Memory is proportional to these.", unit: "short", queries: []Query{
					{`sum(herd_fold_open_keys{` + chosen + `})`, "open in fold"},
					{`sum(herd_judge_open_keys{` + chosen + `})`, "open in judge"},
					{`sum(herd_judge_baselines{` + chosen + `})`, "baselines"},
				}},
			}},
			{"Alerts", []panel{
				{title: "Open alerts", description: "Alerts that are open now.", unit: "short",
					queries: one(`max(herd_api_alerts_open{`+chosen+`})`, "open")},
				{title: "Alerts raised", description: "Alerts of the last day by detector, and the false alerts a day that its budget allows.", unit: "short", queries: []Query{
					{`sum by (detector) (increase(herd_judge_alerts_raised_total{` + chosen + `}[1d]))`, "{{detector}}"},
					{`max by (detector) (herd_judge_alert_budget{` + chosen + `})`, "budget of {{detector}}"},
				}},
				{title: "Thresholds", description: "Score (negative decimal logarithm of the probability) from which on a window of a key alerts.", unit: "short",
					queries: one(`avg by (detector) (herd_judge_alert_threshold{`+chosen+`})`, "{{detector}}")},
				{title: "Known keys", description: "Share of the events that are of keys with a baseline.", unit: "percentunit",
					queries: one(`sum by (metric) (rate(herd_judge_key_events_total{`+chosen+`, key="known"}[$__rate_interval])) / sum by (metric) (rate(herd_judge_key_events_total{`+chosen+`}[$__rate_interval]))`, "{{metric}}")},
				{title: "Keys in warm-up", description: "Keys with events in the newest closed window that a detector cannot judge yet.", unit: "short",
					queries: one(`sum by (detector) (herd_judge_warming_up_keys{`+chosen+`})`, "{{detector}}")},
				{title: "Records of alerts", description: "Records by detector and state, in the last hour.", unit: "short",
					queries: one(`sum by (detector, state) (increase(herd_judge_alerts_total{`+chosen+`}[1h]))`, "{{detector}} {{state}}")},
				{title: "WebSocket clients", description: "Connected clients, and those disconnected because they were too slow.", unit: "short", queries: []Query{
					{`sum(herd_api_websocket_clients{` + chosen + `})`, "connected"},
					{`sum(increase(herd_api_websocket_dropped_total{` + chosen + `}[1h]))`, "too slow in the last hour"},
				}},
			}},
		},
	},
	{
		file: "operator.json", title: "Herd / Operator",
		description: "The operator and all pipelines that it manages.",
		rows: []row{
			{"Pipelines", []panel{
				{title: "Ready", description: "Pipelines by the status of their condition Ready.", unit: "short",
					queries: one(`count by (status) (herd_pipeline_status_condition{condition="Ready"})`, "{{status}}")},
				{title: "Replicas", description: "Desired replicas of all stages of a pipeline.", unit: "short",
					queries: one(`sum by (namespace, pipeline) (herd_pipeline_stage_replicas_desired)`, "{{namespace}}/{{pipeline}}")},
				{title: "Lag", description: "Largest consumer lag of a stage of each pipeline.", unit: "short",
					queries: one(`max by (namespace, pipeline) (herd_pipeline_stage_lag_records)`, "{{namespace}}/{{pipeline}}")},
			}},
			{"Reconciles", []panel{
				{title: "Reconciles", description: "Finished reconciles by outcome.", unit: "ops",
					queries: one(`sum by (outcome) (rate(herd_operator_reconciles_total[$__rate_interval]))`, "{{outcome}}")},
				{title: "Duration of reconciles", description: "99 % of the reconciles take less.", unit: "s",
					queries: one(`histogram_quantile(0.99, sum by (le) (rate(herd_operator_reconcile_seconds_bucket[$__rate_interval])))`, "p99")},
				{title: "Writes", description: "Writes to the API server.", unit: "wps",
					queries: one(`sum by (kind, verb) (rate(herd_operator_writes_total[$__rate_interval]))`, "{{verb}} {{kind}}")},
			}},
			{"Leader", []panel{
				{title: "Leader", description: "1 for the operator that is the leader.", unit: "short",
					queries: one(`herd_operator_leader`, "{{pod}}")},
				{title: "Decisions", description: "Decided changes of replicas by reason, in the last hour.", unit: "short",
					queries: one(`sum by (reason) (increase(herd_operator_decisions_total[1h]))`, "{{reason}}")},
				{title: "Failed reconciles", description: "By reason, in the last hour.", unit: "short",
					queries: one(`sum by (reason) (increase(herd_operator_errors_total[1h])) or vector(0)`, "{{reason}}")},
			}},
		},
	},
}
