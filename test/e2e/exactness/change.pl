# Changes the filesystem of the sandbox at random, the same way for the same seed.
#   perl -e … <seed> <entries to make> <1: also what is done once, to the image below>
use strict;
use warnings;
use Config;
use POSIX qw(mkfifo);

my ($seed, $count, $is_first) = @ARGV;
my $LSETXATTR = $Config{archname} =~ /^aarch64/ ? 6 : 189;
srand $seed;
umask 0;
my $top = '/srv/t';
my (@directories, @files);

sub pick { return $_[int rand @_] }
sub chance { return rand() < $_[0] }

sub bytes { return substr pack('N*', map { int rand 4_294_967_296 } 0 .. $_[0] / 4), 0, $_[0] }

# A name of any bytes that a filesystem takes; never a mark of layers.
sub name {
    my $style = int rand 8;
    my $serial = sprintf '%06x', int rand 0xffffff;
    return "plain-$serial" if $style < 3;
    return "with space\tand\nnewline $serial" if $style == 3;
    return "\xff\xfe\x80-$serial" if $style == 4;
    return "\xc3\xa4\xe6\x97\xa5-$serial" if $style == 5;
    return substr("long-$serial-" . 'x' x 255, 0, 255) if $style == 6;
    return pick('-rf', '*', '"', "'", '\\', '$HOME', ' ', '%', '.hidden', ':') . $serial;
}

sub write_file {
    my ($path, $content) = @_;
    open my $file, '>:raw', $path or die unpack('H*', $path) . ": $!";
    print $file $content;
    close $file or die $!;
}

sub size {
    return pick(0, 0, 1, 511, 512, 513, 4095, 4096, 4097) if chance(0.5);
    return int rand(chance(0.01) ? 300_000 : 3_000);
}

sub set_xattr {
    my ($path, $name, $value) = @_;
    my ($key, $bytes) = ($name, $value);
    return syscall($LSETXATTR, $path, $key, $bytes, length $bytes, 0) == 0;
}

# Owners first: that takes setuid and capabilities away.
sub dress {
    my ($path) = @_;
    if (chance(0.3)) { chown pick(0, 1, 33, 1000, 65534, 100_000), pick(0, 5, 1000, 4_000_000), $path }
    if (chance(0.4)) { chmod pick(0, 0600, 0644, 0755, 0777, 04755, 02755, 01777, 06711, 07777), $path }
    if (chance(0.1)) { set_xattr($path, 'user.test.' . pick('a', 'b'), chance(0.2) ? '' : bytes(1 + int rand 200)) }
    if (chance(0.02) && -f $path && !-l $path) {
        set_xattr($path, 'security.capability', pack 'V5', 0x02000001, 1 << pick(0, 7, 10), 0, 0, 0);
    }
    utime 1, 1_000_000_000 + int rand 700_000_000, $path if chance(0.5) && !-l $path;
}

sub make {
    my $path = pick(@directories) . '/' . name();
    return if -l $path || -e _;
    return if length $path > 900;
    my $kind = rand;
    if ($kind < 0.55) { write_file($path, bytes(size())); push @files, $path }
    elsif ($kind < 0.70) { mkdir $path or die $!; push @directories, $path }
    elsif ($kind < 0.82) {
        symlink pick('/nowhere', '/etc/passwd', '../..', name(), pick(@files) // 'x', 'y' x 1000), $path or die $!;
        lchown($path);
        return;
    }
    elsif ($kind < 0.92 && @files) { link(pick(@files), $path) or return; push @files, $path }
    elsif ($kind < 0.96) { mkfifo($path, 0644) or die "mkfifo: $!" }
    else {
        open my $file, '>:raw', $path or die $!;
        seek $file, 4096 * int(rand 256), 0;
        print $file 'data in the middle';
        truncate $file, 1_048_576 + int rand 4096 or die $!;
        close $file or die $!;
        push @files, $path;
    }
    dress($path);
}

sub lchown { system('chown', '-h', pick('1000:1000', '33:0'), $_[0]) if chance(0.05) }

sub walk {
    my ($path) = @_;
    push @directories, $path;
    opendir my $directory, $path or die unpack('H*', $path) . ": $!";
    for my $name (sort readdir $directory) {
        next if $name eq '.' || $name eq '..';
        my $child = "$path/$name";
        lstat $child;
        if (-d _) { walk($child) }
        elsif (-f _) { push @files, $child }
    }
}

sub remove { system('rm', '-rf', '--', $_[0]) == 0 or die 'rm failed' }

# What there is already: deleted, emptied, replaced by another kind, renamed, appended to, cut.
sub mutate {
    my $path = pick(@files);
    lstat $path;
    return unless -f _;
    my $kind = int rand 8;
    if ($kind == 0) { unlink $path or die $! }
    elsif ($kind == 1) { unlink $path; mkdir $path or die $!; write_file("$path/inside", 'x') }
    elsif ($kind == 2) { unlink $path; symlink 'elsewhere', $path or die $! }
    elsif ($kind == 3) { rename $path, "$path.renamed" if length((split m{/}, $path)[-1]) < 200 }
    elsif ($kind == 4) { truncate $path, int rand 100 }
    elsif ($kind == 5) { open my $file, '>>:raw', $path or die $!; print $file bytes(100) }
    elsif ($kind == 6) { chmod pick(0600, 04711, 0444), $path }
    else { set_xattr($path, 'user.test.a', bytes(20)) }
}

sub mutate_directory {
    my $path = pick(@directories);
    return if $path eq $top || !-d $path || -l $path;
    if (chance(0.3)) { remove($path); write_file($path, 'was a directory') }
    elsif (chance(0.5)) { remove($path); mkdir $path or die $!; write_file("$path/new", 'opaque') }
    else { dress($path) }
}

# Directories and files of the image below.
sub change_below {
    my @below = grep { -d $_ && !-l $_ } sort glob '/usr/share/doc/*';
    die 'too little below' if @below < 12;
    my @chosen = splice @below, int rand(@below - 12), 12;
    remove($chosen[0]);
    remove($chosen[1]), write_file($chosen[1], 'a file now');
    remove($chosen[2]), mkdir($chosen[2]), write_file("$chosen[2]/only this", 'opaque');
    remove($chosen[3]), mkdir($chosen[3]);
    remove($chosen[4]), symlink('..', $chosen[4]);
    chmod 0701, $chosen[5];
    for my $directory (@chosen[6 .. 11]) {
        my @inside = grep { -f $_ && !-l $_ } sort glob "$directory/*";
        next unless @inside;
        unlink $inside[0];
        mkdir $inside[0] if chance(0.5);
        write_file("$directory/added", bytes(100));
    }
}

if ($is_first) {
    mkdir $top or die $!;
    change_below();
    my $deep = $top;
    for my $level (1 .. 11) { $deep .= '/' . chr(96 + $level) x 255; mkdir $deep or die $!; dress($deep) }
    write_file("$deep/deepest", 'here');
    chmod 0755, $deep;
    mkdir "$top/empty";
    write_file("/$_/mine", $_) for qw(root opt home tmp etc var/lib usr/local usr/bin);
}
sub look {
    (@directories, @files) = ();
    walk($top);
    # One path that is as deep as paths can be is enough.
    @$_ = grep { length $_ < 500 } @$_ for \@directories, \@files;
}

look();
if (!$is_first) {
    mutate() for 1 .. $count / 2;
    mutate_directory() for 1 .. $count / 20;
    look();
}
my $made = 0;
while ($made < $count) { make(); $made++ }
print "ok\n";
