CREATE TABLE `volumes` (
	`volume_id` text PRIMARY KEY NOT NULL,
	`environment` text NOT NULL,
	`name` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `volumes_by_name` ON `volumes` (`environment`,`name`);--> statement-breakpoint
CREATE INDEX `volumes_by_time` ON `volumes` (`environment`,`created_at`,`volume_id`);