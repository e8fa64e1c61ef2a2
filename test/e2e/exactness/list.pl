# Prints every entry of the sandbox's filesystem in a fixed order: what a snapshot of it must hold, and nothing else.
#   perl -e … <seconds since 1970, or 0>
# What has not changed since that time is told by one digest for each directory of the root: it may be a whole machine.
use strict;
use warnings;
use Config;

my ($since) = @ARGV;
my ($LGETXATTR, $LLISTXATTR) = $Config{archname} =~ /^aarch64/ ? (9, 12) : (192, 195);
my %left_out = map { $_ => 1 }
    qw(/proc /sys /dev /.sandbar /.dockerenv /etc/hosts /etc/hostname /etc/resolv.conf /etc/mtab);
my (%unchanged, %group, @lines);

# The digests of the files, or of texts, by the one program for it that there is everywhere. /dev is no part of what is listed.
sub digests {
    my @paths = @_;
    open my $list, '>:raw', '/dev/shm/list' or die $!;
    print $list map { "$_\0" } @paths;
    close $list or die $!;
    local $/ = "\0";
    open my $sums, '-|:raw', 'xargs -0 md5sum -z -- < /dev/shm/list' or die $!;
    my %digest = map { chomp; /^([0-9a-f]{32})  (.*)$/s ? ($2 => $1) : die "md5sum: $_" } <$sums>;
    close $sums or die "md5sum: $?";
    unlink '/dev/shm/list';
    return %digest;
}

sub xattrs {
    my ($path) = @_;
    my $names = "\0" x 65536;
    my $length = syscall $LLISTXATTR, $path, $names, 65536;
    return '' if $length <= 0;
    my @found;
    for my $name (sort split /\0/, substr $names, 0, $length) {
        my $value = "\0" x 65536;
        my ($key, $size) = ($name, 0);
        $size = syscall $LGETXATTR, $path, $key, $value, 65536;
        push @found, $name . '=' . ($size < 0 ? 'unreadable' : unpack 'H*', substr $value, 0, $size);
    }
    return join ',', @found;
}

sub visit {
    my ($path, $top) = @_;
    my ($dev, $ino, $mode, $nlink, $uid, $gid, $size, $mtime, $ctime) = (lstat $path)[0 .. 5, 7, 9, 10];
    return unless defined $ino;
    my $is_changed = $ctime >= $since;
    my ($what, $links, $is_directory) = ('?', '', -d _);
    if (-l _) { $what = 'l ' . unpack 'H*', readlink $path }
    elsif ($is_directory) { $what = 'd' }
    elsif (-p _) { $what = 'p' }
    elsif (-f _) {
        $what = $is_changed ? "f $size %s" : "f $size";
        if ($nlink > 1) { $links = " $nlink=" . ($group{"$dev:$ino"} //= unpack 'H*', $path) }
    }
    my $when = $is_changed && !$is_directory ? " $mtime" : '';
    my $begin = sprintf '%s %06o %d:%d ', unpack('H*', $path), $mode, $uid, $gid;
    my $line = sprintf '%s%s%s%s [%s]', $begin, $what, $links, $when, xattrs($path);
    if ($is_changed) { push @lines, [$line, $what =~ /^f/ ? $path : undef] }
    else { push @{$unchanged{$top}}, $line }
    return unless $is_directory;
    opendir my $directory, $path or return;
    my @names = sort grep { $_ ne '.' && $_ ne '..' } readdir $directory;
    closedir $directory;
    for my $name (@names) {
        my $child = ($path eq '/' ? '' : $path) . "/$name";
        visit($child, $path eq '/' ? $child : $top) unless $left_out{$child};
    }
}

visit('/', '/');
my %digest = digests(grep { defined } map { $_->[1] } @lines);
for my $line (@lines) {
    my ($text, $path) = @$line;
    $text =~ s/%s/$digest{$path}/ if defined $path;
    print "$text\n";
}
for my $top (sort keys %unchanged) {
    open my $file, '>:raw', '/dev/shm/text' or die $!;
    print $file map { "$_\n" } @{$unchanged{$top}};
    close $file or die $!;
    printf "unchanged in %s: %d %s\n", $top, scalar @{$unchanged{$top}}, {digests('/dev/shm/text')}->{'/dev/shm/text'};
}
unlink '/dev/shm/text';
