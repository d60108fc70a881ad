"""Gates, approvals and what the audit log holds: rules, without a store."""
