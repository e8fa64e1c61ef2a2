CREATE TABLE `api_keys` (
	`key_id` text PRIMARY KEY NOT NULL,
	`environment` text NOT NULL,
	`name` text NOT NULL,
	`hash` text NOT NULL,
	`scopes` text NOT NULL,
	`created_at` integer NOT NULL,
	`revoked_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `api_keys_hash_unique` ON `api_keys` (`hash`);--> statement-breakpoint
CREATE INDEX `api_keys_by_time` ON `api_keys` (`environment`,`created_at`,`key_id`);--> statement-breakpoint
CREATE TABLE `hosts` (
	`host_id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`url` text,
	`runtime` text,
	`info` text,
	`created_at` integer NOT NULL,
	`last_seen_at` integer,
	`removed_at` integer
);
--> statement-breakpoint
CREATE TABLE `idempotency_keys` (
	`environment` text NOT NULL,
	`operation` text NOT NULL,
	`key` text NOT NULL,
	`request_hash` text NOT NULL,
	`status` integer,
	`body` text,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`environment`, `operation`, `key`)
);
--> statement-breakpoint
CREATE INDEX `idempotency_keys_by_time` ON `idempotency_keys` (`created_at`);--> statement-breakpoint
CREATE TABLE `images` (
	`image_id` text PRIMARY KEY NOT NULL,
	`environment` text NOT NULL,
	`sandbox_id` text NOT NULL,
	`name` text,
	`backend` text NOT NULL,
	`host_id` text NOT NULL,
	`size` integer NOT NULL,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `images_by_time` ON `images` (`environment`,`created_at`,`image_id`);--> statement-breakpoint
CREATE TABLE `sandbox_names` (
	`environment` text NOT NULL,
	`app_id` text DEFAULT '' NOT NULL,
	`name` text NOT NULL,
	`sandbox_id` text NOT NULL,
	`claimed_at` integer NOT NULL,
	PRIMARY KEY(`environment`, `app_id`, `name`)
);
--> statement-breakpoint
CREATE INDEX `sandbox_names_by_sandbox` ON `sandbox_names` (`sandbox_id`);--> statement-breakpoint
CREATE TABLE `sandbox_tags` (
	`sandbox_id` text NOT NULL,
	`key` text NOT NULL,
	`value` text NOT NULL,
	PRIMARY KEY(`sandbox_id`, `key`)
);
--> statement-breakpoint
CREATE TABLE `sandboxes` (
	`sandbox_id` text PRIMARY KEY NOT NULL,
	`environment` text NOT NULL,
	`app_id` text,
	`name` text,
	`state` text NOT NULL,
	`live` integer NOT NULL,
	`backend` text NOT NULL,
	`host_id` text,
	`generation` integer NOT NULL,
	`version` integer NOT NULL,
	`doc` text NOT NULL,
	`created_at` integer NOT NULL,
	`finished_at` integer
);
--> statement-breakpoint
CREATE INDEX `sandboxes_by_time` ON `sandboxes` (`environment`,`created_at`,`sandbox_id`);--> statement-breakpoint
CREATE INDEX `sandboxes_live_by_time` ON `sandboxes` (`environment`,`live`,`created_at`,`sandbox_id`);--> statement-breakpoint
CREATE INDEX `sandboxes_on_host` ON `sandboxes` (`host_id`,`live`);