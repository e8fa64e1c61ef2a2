CREATE TABLE `secrets` (
	`secret_id` text PRIMARY KEY NOT NULL,
	`environment` text NOT NULL,
	`name` text NOT NULL,
	`keys` text NOT NULL,
	`sealed` text NOT NULL,
	`data_key` text NOT NULL,
	`wrapped_by` text NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `secrets_by_name` ON `secrets` (`environment`,`name`);--> statement-breakpoint
CREATE INDEX `secrets_by_time` ON `secrets` (`environment`,`created_at`,`secret_id`);